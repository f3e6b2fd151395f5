"""Images per second of rendering, reading and batching, and the share of a training step spent waiting for data.

    python benchmarks/data.py [--heads 320]

The baseline of rendering is one process. The baseline of batching is a torch DataLoader that decodes every image each
time it is used, with one worker per core. The last line compares the time of a batch with the training step of
train_step.py at the same resolution and batch size, measured in the same run.
"""

import functools
import io
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measuring import best_seconds, command_line, header, in_a_process, row
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from train_step import CPU, PROCESSES, RESOLUTION, settings

from editgan.config import load_params
from editgan.data.archive import load_images, write_archive
from editgan.data.rendering import prepare, render_one
from editgan.generator.parallel import Ranks
from editgan.generator.train import real_batch
from editgan.images import to_float
from editgan.runtime.environment import PROJECT_ROOT

BATCH = settings(0).batch
BATCHES = 200
IMAGES = 20_000  # size of a training set


class DecodedEachTime(Dataset):
    """PNG bytes that are decoded at every access."""

    def __init__(self, encoded: list[bytes]) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(io.BytesIO(self.encoded[index])) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def render(heads: int, workers: int) -> tuple[float, list]:
    """(heads per second, results of `render_one`), measured after every worker has loaded the mesh."""
    params = load_params(PROJECT_ROOT / "params.yaml")
    task = functools.partial(
        render_one, split="train", seed=params.seed, few_shot=params.data.few_shot, resolution=RESOLUTION
    )
    with multiprocessing.get_context("forkserver").Pool(workers, prepare) as pool:
        list(pool.imap(task, range(8 * workers), chunksize=4))
        seconds, made = best_seconds(lambda: list(pool.imap(task, range(heads), chunksize=16)))
    return heads / seconds, made


def batches(images: torch.Tensor) -> None:
    """The batches of the training loop."""
    for step in range(BATCHES):
        real_batch(images, step * BATCH, BATCH, 0, Ranks(), CPU)


def loader_batches(encoded: list[bytes], workers: int) -> float:
    """Seconds for the same batches by a DataLoader, measured after its workers have started."""
    repeated = encoded * (BATCHES * BATCH // len(encoded) + 2)
    loader = iter(DataLoader(DecodedEachTime(repeated), batch_size=BATCH, shuffle=True, num_workers=workers))
    next(loader)
    start = time.perf_counter()
    for _ in range(BATCHES):
        to_float(next(loader)).contiguous(memory_format=torch.channels_last)
    return time.perf_counter() - start


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--heads", type=int, default=320, help="number of heads to render")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    one, _ = render(max(options.heads // cores, 16), 1)
    speed, made = render(options.heads, cores)
    print(f"{cores} cores, {RESOLUTION} px, batch {BATCH}")
    header("measured", "images/s", "baseline", "ratio")
    row(f"rendering, {cores} processes", f"{speed:.0f}", f"one process, {one:.0f}", f"{speed / one:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heads.zip"
        write_archive(path, *zip(*made, strict=True))
        seconds, images = best_seconds(lambda: torch.from_numpy(load_images(path)))
    encoded = [picture for picture, _, _ in made]
    reading = len(images) / seconds
    row("reading the archive, once", f"{reading:.0f}", f"rendering, {speed:.0f}", f"{reading / speed:.1f}")
    images = images[torch.arange(IMAGES) % len(images)]
    seconds, _ = best_seconds(lambda: batches(images))
    ours, loader = BATCHES * BATCH / seconds, BATCHES * BATCH / loader_batches(encoded, cores)
    row("batches", f"{ours:.0f}", f"DataLoader that decodes, {loader:.0f}", f"{ours / loader:.1f}")
    step = in_a_process(str(Path(__file__).parent / "train_step.py"), "--row", PROCESSES, "--steps", 16)
    row("training step", f"{step:.1f}", f"batches, {ours:.0f}", f"{step / ours:.4f}")
    print(f"\nA training step waits {100 * step / ours:.2f} % of its time for data.")


if __name__ == "__main__":
    main()
