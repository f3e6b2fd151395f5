"""Monitoring of training: stats.jsonl, sample grids, and KID, precision and recall of samples."""

import json
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.generator.generator import Generator
from editgan.images import image_grid, save_png, to_float, to_uint8
from editgan.metrics import KID_SUBSET, KID_SUBSETS, NEIGHBOURS, kernel_distance, precision_and_recall
from editgan.runtime.tracking import Run
from editgan.training import generator_for, in_batches
from editgan.weights import write_bytes

GRID_COLUMNS, GRID_ROWS = 10, 4
FORWARD_BATCH = 50
KEPT = 8  # grids that become outputs; MLflow has all


def sample_images(generator: Generator, z: Tensor, device: torch.device) -> Tensor:
    """uint8 samples [N, 3, res, res] from latents z [N, z_dim], without truncation, constant noise."""
    return in_batches(lambda part: to_uint8(generator(part)), z, batch=FORWARD_BATCH, device=device)


def pooled_features(network: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """VGG16 features [N, 512] of uint8 images, averaged over positions."""
    return in_batches(lambda part: network.pooled(to_float(part)), images, batch=FORWARD_BATCH, device=device)


class Recorder:
    """Writes pictures to the folder of the training state, statistics to the stage's outputs, and both to MLflow.

    `history` is the content of stats.jsonl. It is part of the training state, so a resumed run writes the same file as
    an uninterrupted one.
    """

    def __init__(
        self,
        *,
        out: Path,
        work: Path,
        run: Run,
        lpips_vgg: nn.Module,
        reals: Tensor,  # uint8 [N, 3, res, res]
        seed: int,
        kid_images: int,
        device: torch.device,
    ) -> None:
        self.out, self.run = out, run
        self.lpips_vgg, self.seed, self.device = lpips_vgg, seed, device
        self.kid_images = min(kid_images, len(reals))
        self.history: list[dict[str, float]] = []
        self.pictures = work / "snapshots"
        self.pictures.mkdir(parents=True, exist_ok=True)
        self._real_features = pooled_features(lpips_vgg, reals[: self.kid_images], device)
        self._picture("reals", reals[: GRID_COLUMNS * GRID_ROWS])
        self._write_history()

    @property
    def kid_name(self) -> str:
        """Name of the metric with sample count and feature network, e.g. kid1k_vgg16."""
        count = f"{self.kid_images // 1000}k" if self.kid_images % 1000 == 0 else str(self.kid_images)
        return f"kid{count}_vgg16"

    def resume(self, history: str) -> None:
        """Restore the history (JSON) of a training state."""
        self.history = json.loads(history)
        self._write_history()

    def tick(self, cur_nimg: int, stats: dict[str, float]) -> None:
        """Append one line to stats.jsonl and one point to every curve."""
        kimg = round(cur_nimg / 1000, 3)
        self.history.append({"kimg": kimg, **{name: round(value, 6) for name, value in stats.items()}})
        self._write_history()
        self.run.log_metrics(stats, kimg)

    def snapshot(self, generator: Generator, cur_nimg: int) -> dict[str, float]:
        """Save a grid of fixed latents as fakes{kimg:06d}.png; return KID, precision and recall of other samples."""
        self.grid(generator, f"fakes{cur_nimg // 1000:06d}")
        z = torch.randn(self.kid_images, generator.z_dim, generator=generator_for(self.seed, "generator", "kid"))
        fakes = sample_images(generator, z, self.device)
        features = pooled_features(self.lpips_vgg, fakes, self.device)
        subsets = 1 if self.kid_images <= KID_SUBSET else KID_SUBSETS  # one subset has all images
        distance = kernel_distance(features, self._real_features, subsets=subsets, seed=self.seed)
        precision, recall = precision_and_recall(features, self._real_features, NEIGHBOURS)
        shares = {"precision": precision, "recall": recall}
        return {self.kid_name: distance} | {self.kid_name.replace("kid", name): v for name, v in shares.items()}

    def grid(self, generator: Generator, name: str) -> None:
        """Save the samples of the fixed latents as a grid."""
        rng = generator_for(self.seed, "generator", "grid")
        z = torch.randn(GRID_COLUMNS * GRID_ROWS, generator.z_dim, generator=rng)
        self._picture(name, sample_images(generator, z, self.device))

    def _picture(self, name: str, images: Tensor) -> None:
        path = save_png(self.pictures / f"{name}.png", image_grid(images, GRID_COLUMNS))
        self.run.log_image(path, name)

    def keep_pictures(self) -> None:
        """Copy the real images and at most `KEPT` grids, evenly spaced, the last among them, to the outputs."""
        grids = sorted(self.pictures.glob("fakes0*.png"))[::-1]
        (self.out / "snapshots").mkdir(parents=True, exist_ok=True)
        for picture in (*grids[:: -(-len(grids) // KEPT)], self.pictures / "reals.png"):
            shutil.copyfile(picture, self.out / "snapshots" / picture.name)

    def _write_history(self) -> None:
        text = "".join(json.dumps(line) + "\n" for line in self.history)
        write_bytes(self.out / "stats.jsonl", text.encode())


def curves(history: list[dict[str, float]]) -> dict[str, list[dict[str, float]]]:
    """The history as plot tables: all rows of a table have the same columns; the first column is kimg."""
    names = {name for line in history for name in line}
    columns = {
        "adversarial": ["loss/G", "loss/D", "r_t", "logits/real", "logits/fake"],
        "kid": sorted(name for name in names if name.startswith("kid")),
        "precision_recall": sorted(name for name in names if name.startswith(("precision", "recall"))),
    }
    tables = {}
    for table, wanted in columns.items():
        rows = [line for line in history if all(name in line for name in wanted)]
        if wanted and rows:
            tables[table] = [{name: row[name] for name in ("kimg", *wanted)} for row in rows]
    return tables
