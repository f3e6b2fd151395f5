"""Time of the judges' networks, KID and FID, compared with plain implementations in the same run.

    python benchmarks/scoring.py

Networks: milliseconds per picture on one thread, as loaded (batch of 50, contiguous, separate batch norms) and as used
by the benchmark (batch of 16, channels last, folded batch norms). KID and FID: one row of 400 pictures,
2,000 references, 1,280 features; by clean-fid, KID also by torchmetrics, and by our matrix products.
"""

import os
from functools import partial

import numpy as np
import torch
from cleanfid import fid as cleanfid
from measuring import best_seconds, command_line, header, row
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from editgan.assets.load import for_inference, load_network
from editgan.metrics import (
    KID_SUBSETS,
    features_to_statistics,
    frechet_distance,
    kernel_distance,
    reference_sums,
)
from editgan.runtime.process import keep_freed_memory

NETWORKS = ("mobilefacenet", "face_api_expression", "fer", "efflite0", "lpips_alex")
HEADS, REFERENCES, WIDTH = 400, 2000, 1280


def compare(name: str, plain: float, ours: float) -> None:
    row(name, f"{plain:.3g}", f"{ours:.3g}", f"{plain / ours:.1f}")


def compare_network(name: str) -> None:
    network, images = load_network(name), torch.rand(96, 3, 64, 64) * 2 - 1

    def shown(batch: int, layout: torch.memory_format) -> None:
        for part in images.split(batch):
            x = part.contiguous(memory_format=layout)
            network(x, x) if name.startswith("lpips") else network(x)

    with torch.no_grad():
        plain, _ = best_seconds(partial(shown, 50, torch.contiguous_format), 3)
        for_inference(network)
        fast, _ = best_seconds(partial(shown, 16, torch.channels_last), 3)
    compare(f"{name}, ms per picture", 1000 * plain / len(images), 1000 * fast / len(images))


def packages_kid(x: Tensor, y: Tensor) -> None:
    """KID by clean-fid, then by torchmetrics on the same number of subsets."""
    np.random.seed(0)
    cleanfid.kernel_distance(x.numpy(), y.numpy(), num_subsets=KID_SUBSETS)
    for _ in range(KID_SUBSETS):
        rows = [torch.from_numpy(np.random.choice(len(side), HEADS, replace=False)) for side in (y, x)]
        poly_mmd(y[rows[0]], x[rows[1]])


def main() -> None:
    command_line(__doc__).parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(f"one thread, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    header("", "plain", "ours", "ratio")
    for name in NETWORKS:
        compare_network(name)
    x, y = torch.rand(HEADS, WIDTH, dtype=torch.float64), torch.rand(REFERENCES, WIDTH, dtype=torch.float64)
    among = reference_sums(y, HEADS, subsets=KID_SUBSETS, seed=0)
    mine, known = features_to_statistics(x), features_to_statistics(y)

    def packages_fid() -> float:
        variances, directions = np.linalg.eigh(mine.covariance)
        base = directions[:, variances > 1e-10]  # clean-fid cannot take the root of a singular matrix
        sides = [(each.mean @ base, base.T @ each.covariance @ base) for each in (mine, known)]
        return cleanfid.frechet_distance(*sides[0], *sides[1])

    ours, _ = best_seconds(lambda: kernel_distance(x, y, subsets=KID_SUBSETS, among=among), 3)
    compare("KID, s", best_seconds(lambda: packages_kid(x, y))[0], ours)
    ours, _ = best_seconds(lambda: frechet_distance(mine, known), 3)
    compare("FID, s", best_seconds(packages_fid, 3)[0], ours)


if __name__ == "__main__":
    main()
