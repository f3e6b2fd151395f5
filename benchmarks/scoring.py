"""Seconds per benchmark table for judging networks and statistics, compared with plain implementations in the same run.

    python benchmarks/scoring.py

Networks: milliseconds per picture on one thread, as loaded (batch of 50, contiguous, separate batch norms) and as used
by the benchmark (batch of 16, channels last, folded batch norms). Statistics of one row of 400 pictures against 2,000
references with 1,280 features and 2,000 resamples: clean-fid and torchmetrics, or one gather per resample, compared
with matrix products.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from editgan.assets.inference import for_inference
from editgan.assets.load import load_network
from editgan.metrics import (
    bootstrap_interval,
    cleanfid,
    features_to_statistics,
    frechet_distance,
    kernel_distance,
    percentile_interval,
    poly_mmd,
    reference_sums,
)
from editgan.runtime.process import keep_freed_memory
from editgan.scoring.envelope import POINTS, bootstrap_areas
from editgan.training import generator_for

NETWORKS = ("mobilefacenet", "face_api_expression", "fer", "efflite0", "lpips_alex")
HEADS, REFERENCES, WIDTH, SUBSETS, RESAMPLES, STRENGTHS = 400, 2000, 1280, 100, 2000, 10


def seconds(work: Callable[[], object], times: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def network_row(name: str) -> tuple[str, float, float]:
    """Milliseconds a picture, the plain way and ours."""
    network, images = load_network(name, Path("outputs/assets")), torch.rand(96, 3, 64, 64) * 2 - 1

    def shown(batch: int, layout: torch.memory_format) -> None:
        for part in images.split(batch):
            x = part.contiguous(memory_format=layout)
            network(x, x) if name.startswith("lpips") else network(x)

    with torch.no_grad():
        shown(48, torch.contiguous_format)
        plain = seconds(lambda: shown(50, torch.contiguous_format), 2)
        for_inference(network)
        shown(16, torch.channels_last)
        fast = seconds(lambda: shown(16, torch.channels_last), 2)
    return f"{name}, ms a picture", 1000 * plain / len(images), 1000 * fast / len(images)


def packages_kid(x: Tensor, y: Tensor) -> None:
    """As it was: clean-fid, then the same subsets by torchmetrics."""
    np.random.seed(0)
    cleanfid.kernel_distance(x.numpy(), y.numpy(), num_subsets=SUBSETS)
    for _ in range(SUBSETS):
        rows = [torch.from_numpy(np.random.choice(len(side), HEADS, replace=False)) for side in (y, x)]
        poly_mmd(y[rows[0]], x[rows[1]])


def gathered_interval(values: Tensor) -> tuple[float, float]:
    draws = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator_for(0, "bootstrap"))
    return percentile_interval(values[draws].mean(1))


def written_out_areas(smiling: Tensor, identity: Tensor, kept: Tensor) -> None:
    """As it was: at every point of the curve all pairs of strengths, for every resample."""
    draws = torch.randint(HEADS, (RESAMPLES + 1, HEADS), generator=generator_for(0, "bootstrap"))
    high = kept[draws].mean(1)
    accuracy, kind = (torch.stack([row[draws].mean(1) for row in rows], -1) for rows in (smiling, identity))
    for step in range(POINTS):
        x = (0.4 + (step + 0.5) / POINTS * (high - 0.4))[..., None]
        keeps = kind >= x
        gap = kind[..., :, None] - kind[..., None, :]
        share = (kind - x)[..., :, None] / gap.clamp(min=1e-12)
        mixed = accuracy[..., :, None] + share * (accuracy[..., None, :] - accuracy[..., :, None])
        torch.where(keeps[..., :, None] & ~keeps[..., None, :], mixed, 0.0).flatten(-2).amax(-1)


def statistics_rows() -> list[tuple[str, float, float]]:
    x, y = torch.rand(HEADS, WIDTH, dtype=torch.float64), torch.rand(REFERENCES, WIDTH, dtype=torch.float64)
    known, among = features_to_statistics(y), reference_sums(y, HEADS, subsets=SUBSETS, seed=0)
    mine = features_to_statistics(x)
    values = torch.rand(HEADS, dtype=torch.float64)
    smiling, identity = torch.rand(2, STRENGTHS, HEADS, dtype=torch.float64)
    kept = identity[0]
    args = ({"a": smiling}, {"a": identity})

    def cleanfid_fid() -> None:
        variances, directions = np.linalg.eigh(mine.covariance)
        kept_directions = directions[:, variances > 1e-10]
        covariances = [kept_directions.T @ known_.covariance @ kept_directions for known_ in (mine, known)]
        means = [known_.mean @ kept_directions for known_ in (mine, known)]
        cleanfid.frechet_distance(means[0], covariances[0], means[1], covariances[1])

    bootstrap_interval(values, resamples=RESAMPLES, seed=0)  # draws the resamples
    return [
        ("KID, s", seconds(lambda: packages_kid(x, y)),
         seconds(lambda: kernel_distance(x, y, subsets=SUBSETS, among=among))),
        ("FID, s", seconds(cleanfid_fid), seconds(lambda: frechet_distance(mine, known))),
        ("interval of a column, s", seconds(lambda: gathered_interval(values), 5),
         seconds(lambda: bootstrap_interval(values, resamples=RESAMPLES, seed=0), 5)),
        ("area with its interval, s", seconds(lambda: written_out_areas(smiling, identity, kept)),
         seconds(lambda: bootstrap_areas(*args, stranger=0.4, kept=kept, resamples=RESAMPLES, seed=0))),
    ]  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(f"one thread, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}\n")
    print("| | plain | ours | ratio |\n|---|---:|---:|---:|")
    for name, plain, fast in (*map(network_row, NETWORKS), *statistics_rows()):
        print(f"| {name} | {plain:.3g} | {fast:.3g} | {plain / fast:.1f} |", flush=True)


if __name__ == "__main__":
    main()
