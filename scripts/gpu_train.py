"""Train the generator on a machine that has torch and a GPU, and little else: `scripts/gpu_session.sh` calls it.

    python scripts/gpu_train.py --minutes 6 --out OUT [--device cuda] [--tiny]

Renders the training heads on all cores, measures how many images a second this machine trains on, sets the length of
the training from that (so that the learning rate has decayed when the time is up), trains on params.yaml, and
leaves in OUT: G_ema.safetensors (float16), a grid of samples every tenth of the way, stats.jsonl. It needs torch,
numpy, scipy, pillow, safetensors, pydantic, psutil and PyYAML, and outputs/assets/efflite1.safetensors. KID, precision
and recall are measured afterwards by stage `samples`.
"""

import argparse
import functools
import io
import json
import multiprocessing
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from editgan.assets.load import load_network
from editgan.config import Params, load_params
from editgan.data.rendering import prepare, render_one
from editgan.generator.losses import mean_w
from editgan.generator.parallel import Ranks
from editgan.generator.params import GeneratorParams
from editgan.generator.train import train
from editgan.images import image_grid, save_png, to_uint8
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.precision import choose_precision
from editgan.training import generator_for
from editgan.weights import save_module, write_json

RATE_SECONDS = 20.0  # for which the pace is measured
BATCH = 256  # on a GPU; the learning rates stay, as Adam's steps do not grow with the batch
SQUARE = 8  # samples a side of a grid


def render_heads(count: int, params: Params) -> torch.Tensor:
    """The training heads of stage `data`: uint8 [count, 3, H, W]."""
    task = functools.partial(
        render_one, split="train", seed=params.seed, few_shot=params.data.few_shot, resolution=params.resolution
    )
    with multiprocessing.get_context("forkserver").Pool(len(os.sched_getaffinity(0)), prepare) as pool:
        images = [np.asarray(Image.open(io.BytesIO(made[0]))) for made in pool.imap(task, range(count), chunksize=32)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


class Enough(Exception):
    """The pace is known."""


class Recorder:
    """Grids and stats.jsonl; stops the measurement of the pace by an exception."""

    kid_name = "kid"  # not measured here

    def __init__(self, out: Path, seconds: float | None = None) -> None:
        self.out, self.seconds, self.run = out, seconds, self
        self.history: list[dict] = []
        self.seen: list[tuple[float, float]] = []  # (kimg, seconds)

    def progress(self, done: float, total: float, unit: str, message: str) -> None:
        self.seen.append((done, time.perf_counter()))
        if self.seconds is not None and self.seen[-1][1] - self.seen[0][1] > self.seconds:
            raise Enough

    def rate(self) -> float:
        """Images a second, without the first tenth."""
        rows = self.seen[len(self.seen) // 10 :]
        return 1000 * (rows[-1][0] - rows[0][0]) / (rows[-1][1] - rows[0][1])

    def grid(self, generator: torch.nn.Module, name: str) -> None:
        z = torch.randn(SQUARE**2, generator.z_dim, generator=generator_for(0, "generator", "grid"))
        with torch.no_grad():
            images = to_uint8(generator(z.to(generator.w_avg.device), noise_mode="none")).cpu()
        save_png(self.out / f"{name}.png", image_grid(images, SQUARE))

    def snapshot(self, generator: torch.nn.Module, cur_nimg: int) -> dict[str, float]:
        self.grid(generator, f"fakes{cur_nimg // 1000:06d}")
        return {self.kid_name: -float(cur_nimg)}  # the last one counts as the best

    def tick(self, cur_nimg: int, line: dict[str, float]) -> None:
        self.history.append({"kimg": cur_nimg / 1000, **line})
        (self.out / "stats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.history))
        print(f"{cur_nimg / 1000:.0f} kimg  D {line['loss/D']:.3f}  G {line['loss/G']:.3f}", flush=True)


def scheduled(params: GeneratorParams, kimg: float) -> GeneratorParams:
    """The same training in another length: ten ticks, the projected discriminator after a tenth."""
    tick = kimg / 10
    every = {"status_kimg": tick, "snapshot_kimg": tick, "state_kimg": tick}
    return params.model_copy(update={"kimg": kimg, "projected_from_kimg": tick, **every})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=6, help="of training, rendering not counted")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="300 heads, small batches, a few steps: does it run?")
    options = parser.parse_args()
    whole = load_params(PROJECT_ROOT / "params.yaml")
    device, out, tiny = torch.device(options.device), options.out, options.tiny
    out.mkdir(parents=True, exist_ok=True)
    params = whole.generator.model_copy(update={} if tiny else {"batch": BATCH})
    started = time.perf_counter()
    images = render_heads(300 if tiny else whole.data.train, whole)
    print(f"{len(images)} heads in {time.perf_counter() - started:.0f} s", flush=True)
    precision = choose_precision(device)

    def training(schedule: GeneratorParams, recorder: Recorder):
        with tempfile.TemporaryDirectory() as folder:
            return train(
                Ranks(), params=schedule, resolution=whole.resolution, seed=whole.seed, images=images,
                backbone=load_network("efflite1"), device=device, precision=precision, folder=Path(folder),
                recorder=recorder,
            )  # fmt: skip

    pace = Recorder(out, seconds=2.0 if tiny else RATE_SECONDS)
    with suppress(Enough):  # from the first image on with the projected discriminator, as for most of the time
        training(scheduled(params, 1e6).model_copy(update={"projected_from_kimg": 0.0}), pace)
    kimg = 0.16 if tiny else max(10, round(pace.rate() * options.minutes * 60 / 1000))
    print(f"{pace.rate():.0f} images a second in {precision}: {kimg} kimg in {options.minutes:g} minutes", flush=True)
    started = time.perf_counter()
    G = training(scheduled(params, kimg), Recorder(out)).G_ema
    G.w_avg.copy_(mean_w(G, whole.seed))
    save_module(out / "G_ema.safetensors", G, G.config, {"kimg": kimg, "recipe": params.recipe})
    seconds = time.perf_counter() - started
    metrics = {"images_a_second": kimg * 1000 / seconds, "kimg": kimg, "minutes": seconds / 60, "batch": params.batch}
    write_json(out / "metrics.json", metrics)
    print(f"done in {seconds / 60:.1f} minutes: {out / 'G_ema.safetensors'}", flush=True)


if __name__ == "__main__":
    main()
