"""Shared by the benchmarks: command lines, the models and heads of a run, measures of pictures, tables, timing."""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from editgan.assets.load import load_network
from editgan.config import load_params
from editgan.data.archive import load_attributes, load_images, load_masks
from editgan.editing.edits import Edit, load_edits, target_mask
from editgan.editor.editor import Editor
from editgan.encoder.encoder import load_latents
from editgan.images import to_float
from editgan.judges.quality import SMILE_THRESHOLD, cosines, measure
from editgan.metrics import outside_error
from editgan.weights import load_tensors, save_tensors, sha256

EMBEDDED = 32  # pictures to embed between two saves


def command_line(doc: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=doc.splitlines()[0])


def trained_command_line(doc: str) -> argparse.ArgumentParser:
    """A parser with the options that `Trained` reads."""
    parser = command_line(doc)
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    return parser


class Trained:
    """The trained models of a run, and its heads."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.outputs, self.data, self.params = options.outputs, options.outputs / "data", load_params(options.params)
        self.root = self.outputs.parent
        self.editor = Editor.load(self.outputs, self.params.runtime.device)
        self.device = self.editor.device

    def network(self, name: str) -> nn.Module:
        return load_network(name, self.outputs / "assets").to(self.device)

    def attributes(self, split: str) -> list[dict]:
        return load_attributes(self.data / f"{split}.zip")

    def images(self, split: str, heads: Sequence[int] | None = None) -> Tensor:
        """uint8 [N, 3, H, W]"""
        return torch.as_tensor(load_images(self.data / f"{split}.zip", heads))

    def masks(self, split: str, heads: Sequence[int] | None = None) -> Tensor:
        """Exact labels, uint8 [N, H, W]."""
        return torch.as_tensor(load_masks(self.data / f"{split}.zip", heads))

    def latents(self, split: str) -> Tensor:
        """Latents stored by stage `encoder`.  # [N, num_ws, w_dim]"""
        return load_latents(self.outputs / "encoder" / "latents.safetensors")[split]

    def chosen(self) -> dict[str, float]:
        """Strength of each method, chosen by stage `scoring` on validation heads."""
        metrics = json.loads((self.outputs / "scoring" / "metrics.json").read_text())
        return {name: choice["strength"] for name, choice in metrics["chosen"].items()}

    def embedded(self, photos: Tensor, path: Path | None = None) -> Tensor:
        """Embed photos uint8 [N, 3, H, W] as in stage `encoder`; latents in the file `path` are reused, new ones added.

        Returns:
            [N, num_ws, w_dim]
        """
        section = self.params.encoder
        options = {"steps": section.inversion_steps, "lr": section.inversion_lr}
        models = [self.outputs / name for name in ("generator/G_ema.safetensors", "encoder/E.safetensors")]
        made_by = {"models": [sha256(model) for model in models], **options}
        known, of = load_tensors(path) if path is not None and path.exists() else ({}, made_by)
        if of != made_by:
            known = {}
        names = [hashlib.sha256(photo.numpy().tobytes()).hexdigest() for photo in photos]
        missing = [index for index, name in enumerate(names) if name not in known]
        for start in range(0, len(missing), EMBEDDED):
            part = missing[start : start + EMBEDDED]
            self.editor.set_image(photos[part], **options)
            for index, w_plus in zip(part, self.editor.w_plus.cpu(), strict=True):
                known[names[index]] = w_plus
            if path is not None:
                save_tensors(path, known, made_by)
            print(f"{start + len(part)} of {len(missing)} pictures embedded", file=sys.stderr, flush=True)
        return torch.stack([known[name] for name in names])

    def val_latents(self, heads: Sequence[int]) -> Tensor:
        """Latents of validation heads; those that stage `encoder` did not embed are embedded here."""
        val = self.latents("val")
        missing = [head for head in heads if head >= len(val)]
        found = dict(zip(missing, self.embedded(self.images("val", missing)), strict=True)) if missing else {}
        return torch.stack([found[head] if head in found else val[head] for head in heads])

    @cached_property
    def edits(self) -> dict[str, Edit]:
        return load_edits(self.root / "edits.yaml", self.editor.class_names)

    @cached_property
    def donors(self) -> dict[str, Any]:
        """Arguments of `target_mask`: the labelled heads, as in stage `editing`."""
        few = self.params.segmentation.labelled_images
        return dict(
            class_names=self.editor.class_names,
            donors=self.masks("pool", range(few)).numpy(),
            donor_attributes=self.attributes("pool")[:few],
            folder=self.root,
        )

    def wanted(self, edit: Edit, masks: Tensor) -> Tensor:
        """Target masks of an edit, from masks [N, H, W].  # uint8 [N, H, W]"""
        return torch.as_tensor(np.stack([target_mask(edit, mask, **self.donors)[0] for mask in masks.numpy()]))

    @cached_property
    def alex(self) -> nn.Module:
        """LPIPS with AlexNet."""
        return self.network("lpips_alex")

    @cached_property
    def _mobilefacenet(self) -> nn.Module:
        return self.network("mobilefacenet")

    @torch.no_grad()
    def lpips(self, images: Tensor, others: Tensor) -> Tensor:
        """LPIPS-Alex of two stacks, uint8 [N, 3, H, W].  # [N], on the CPU"""
        return self.alex(*(to_float(each).to(self.device) for each in (images, others))).cpu()

    def identity(self, images: Tensor, others: Tensor) -> float:
        """Mean cosine of MobileFaceNet's ArcFace features of two stacks, uint8 [N, 3, H, W]."""
        first, second = (measure(self._mobilefacenet, each, device=self.device) for each in (images, others))
        return cosines(first, second).diagonal().mean().item()

    def smiling(self, network: nn.Module, images: Tensor) -> float:
        """Share of pictures, uint8 [N, 3, H, W], that a network classifies as smiling."""
        return (measure(network.smile, images, device=self.device) >= SMILE_THRESHOLD).double().mean().item()


def leak(images: Tensor, kept: Tensor, region: Tensor) -> float:
    """1000 x mean squared error, in [-1, 1], outside a region, bool [N, H, W], of pictures uint8 [N, 3, H, W]."""
    return 1000 * outside_error(to_float(images), to_float(kept), region).mean().item()


def followed(masks: Tensor, before: Tensor, target: Tensor) -> Tensor:
    """Share of the pixels to change (`target` != `before`) that equal `target` in `masks`; labels [N, H, W] -> [N]."""
    painted = before != target
    return ((masks == target) & painted).sum((1, 2)) / painted.sum((1, 2))


def header(*columns: object) -> None:
    """Begin a Markdown table; the first column is aligned to the left.

    By hand, because `tabulate` needs all rows to start with, and these are printed one by one.
    """
    print(f"\n| {' | '.join(map(str, columns))} |\n|---|{'---:|' * (len(columns) - 1)}", flush=True)


def row(*cells: object) -> None:
    """Print a row of the table immediately: the next one may take minutes."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def best_seconds(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """The shortest time of `repeats` calls in seconds, and the result of the last one."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def in_a_process(script: str, *arguments: object) -> Any:
    """Run a script that prints JSON, and return this: a new process starts with fresh memory and caches."""
    command = [sys.executable, script, *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
