"""Images per second of rendering, reading and batching, and the share of a training step spent waiting for data.

    python benchmarks/data.py [--heads 320] [--batches 200]

The baseline of rendering is one process. The baseline of batching is a torch DataLoader that decodes every image each
time it is used, with one worker per core. The last line compares the time of a batch with the full training step of
benchmarks/plain_path.py at the same resolution and batch size, measured in the same run.
"""

import argparse
import functools
import io
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from plain_path import BATCH, in_a_process
from torch.utils.data import DataLoader, Dataset

from editgan.config import load_params
from editgan.data.archive import load_encoded, load_images, write_archive
from editgan.data.worker import prepare, render_one
from editgan.images import to_float
from editgan.runtime.environment import PROJECT_ROOT
from editgan.training import batch_indices

RESOLUTION = 64
IMAGES = 20_000  # of a training set


class DecodedEachTime(Dataset):
    """PNG bytes that are decoded whenever an image is asked for."""

    def __init__(self, encoded: list[bytes]) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(io.BytesIO(self.encoded[index])) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def render(heads: int, workers: int) -> tuple[float, list]:
    """(heads a second, what `render_one` made), pool and its start included only where it is at work."""
    params = load_params(PROJECT_ROOT / "params.yaml")
    task = functools.partial(
        render_one, split="train", seed=params.seed, few_shot=params.data.few_shot, resolution=RESOLUTION,
        supersample=params.data.supersample,
    )  # fmt: skip
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["editgan.data.worker"])
    with processes.Pool(workers, prepare) as pool:
        list(pool.imap(task, range(8 * workers), chunksize=4))  # every worker has loaded the mesh
        start = time.perf_counter()
        made = list(pool.imap(task, range(heads), chunksize=16))
        return heads / (time.perf_counter() - start), made


def batches(images: torch.Tensor, count: int) -> float:
    """Images a second of the training loop's own batches: indices, slicing, mirroring, float."""
    start = time.perf_counter()
    for step in range(count):
        batch = images[batch_indices(0, step * BATCH, BATCH, len(images))]
        flip = torch.rand(BATCH) < 0.5
        batch = torch.where(flip[:, None, None, None], batch.flip(3), batch)
        to_float(batch).contiguous(memory_format=torch.channels_last)
    return count * BATCH / (time.perf_counter() - start)


def usual_batches(encoded: list[bytes], count: int, workers: int) -> float:
    """The same by a DataLoader, after its workers have started."""
    repeated = encoded * (count * BATCH // len(encoded) + 2)
    loader = iter(DataLoader(DecodedEachTime(repeated), batch_size=BATCH, shuffle=True, num_workers=workers))
    to_float(next(loader))
    start = time.perf_counter()
    for _ in range(count):
        to_float(next(loader)).contiguous(memory_format=torch.channels_last)
    return count * BATCH / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=320, help="heads rendered")
    parser.add_argument("--batches", type=int, default=200, help="batches drawn")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    one, _ = render(max(options.heads // cores, 16), 1)
    rate, made = render(options.heads, cores)
    print(f"{cores} cores, {RESOLUTION} px, batch {BATCH}\n")
    print("| what | images/s | against | ratio |\n|---|---:|---|---:|")
    print(f"| rendering, {cores} processes | {rate:.0f} | one process, {one:.0f} | {rate / one:.2f} |")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heads.zip"
        write_archive(path, *zip(*made, strict=True))
        start = time.perf_counter()
        images = torch.from_numpy(load_images(path))
        loading = len(images) / (time.perf_counter() - start)
        encoded, _, _ = load_encoded(path)
    images = images[torch.arange(IMAGES) % len(images)]
    print(f"| reading the archive, once | {loading:.0f} | rendering, {rate:.0f} | {loading / rate:.1f} |")
    ours, usual = batches(images, options.batches), usual_batches(encoded, options.batches, cores)
    print(f"| batches | {ours:.0f} | DataLoader that decodes, {usual:.0f} | {ours / usual:.1f} |")
    step = in_a_process("editgan", RESOLUTION, 16)["rate"]
    print(f"| training step | {step:.1f} | batches, {ours:.0f} | {step / ours:.4f} |")
    print(f"\nA training step waits {100 * step / ours:.2f} % of its time for data.")


if __name__ == "__main__":
    main()
