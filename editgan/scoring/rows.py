"""Generate and score every row of the benchmark. One process per core is faster than threads on CPUs."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editgan.config import Params
from editgan.data.archive import load_classes, load_images, load_masks
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.images import read_mask
from editgan.judges.load import load_judges
from editgan.judges.quality import measure
from editgan.methods.distillation.pairs import smile
from editgan.methods.distillation.pix2pixhd import GlobalGenerator
from editgan.methods.maskgan.networks import MaskGAN, edit, smile_masks
from editgan.methods.registry import load_methods
from editgan.methods.smile import DISTILLATION, INPUT, MASKGAN, RECONSTRUCTION, load_heads
from editgan.metrics import Reference, check_packages
from editgan.runtime.process import die_with_stage, keep_freed_memory
from editgan.scoring.parts import load_part_share
from editgan.scoring.scores import (
    Measured,
    Scores,
    different_people_cosine,
    measure_row,
    score_embedding,
    score_row,
)
from editgan.scoring.table import Column, Figure, Row
from editgan.segmentation.metrics import segmentation_scores
from editgan.segmentation.predict import predict_masks
from editgan.weights import load_module

BATCH = 16  # images at a time
EMBEDDING = "embedding"  # the job that measures reconstructions of validation heads; no row has this name
RUNGS = {"encoder": "val_encoder", "encoder_and_optimisation": "val"}  # row -> its entry of latents.safetensors


@dataclass(frozen=True)
class Scored:
    """A row, its pictures and its metrics."""

    row: Row
    scores: Scores
    pictures: Tensor | None = None  # uint8 [N, 3, H, W]
    smile: Tensor | None = None  # P(smile), or what is said of another attribute, by judge  # [N, J]
    masks: Tensor | None = None  # labels predicted by the segmentation  # uint8 [N, H, W]
    ms_per_head: float | None = None  # time to generate the pictures, as generated and pasted back together


class Rows:
    """Test heads, methods and judges: everything that a process needs to generate and score rows."""

    def __init__(self, outputs: Path, params: Params, device: torch.device) -> None:
        """Raises UserError if a stage's output is missing, damaged or belongs to another generator."""
        self.outputs, self.device, self.seed = outputs, device, params.seed
        self.vectors, methods, self.renderer = load_methods(
            outputs, vector=params.scoring.vector, plus=params.scoring.plus_vector, device=device
        )
        self.methods = {RECONSTRUCTION: lambda w_plus: lambda strength: contextlib.nullcontext(w_plus)} | methods
        self.heads = load_heads(outputs / "data")
        self.latents = load_latents(outputs / "encoder" / "latents.safetensors")
        self.w_plus = self.latents["test"]  # [N, num_ws, w_dim]
        self.protocol = self.heads.protocol
        if self.heads.places is not None:
            self.w_plus = self.w_plus[list(self.heads.places)]
        if len(self.w_plus) != len(self.heads.photos):
            raise UserError(
                f"outputs/encoder: {len(self.w_plus)} latents of {RECONSTRUCTION} for {len(self.heads.photos)} test"
                " heads; run stage encoder again"
            )
        parser = None if self.protocol.faces else load_part_share(outputs, self.protocol)
        self.judges = load_judges(outputs / "assets", outputs / "judges", device, params.assets, self.protocol, parser)

    def score(self, method: str, strength: float | None) -> list[Scored]:
        """Edit the test heads with a method at a strength and score them: as generated, and pasted back."""
        if method == EMBEDDING:
            return self.embedding()
        start = time.monotonic()
        pictures, masks = self.make(method, strength)
        milliseconds = 1000 * (time.monotonic() - start) / len(self.heads.photos)
        scored = []
        for row, images in pictures.items():
            if row == Row(INPUT):
                measured = self.photo
            elif row == Row(RECONSTRUCTION, strength):
                measured = self.reconstruction
            else:
                measured = self.measured(images)
            scores = score_row(
                row,
                measured,
                photo=self.photo,
                reconstruction=self.reconstruction,
                heads=self.heads,
                references=self.references,
                seed=self.seed,
            )
            if method == INPUT:
                for network, features in measured.identity.items():
                    others = different_people_cosine(features, self.heads.identities)
                    scores.figures[Column(self.protocol.strangers, network)] = Figure(len(features), others)
            if masks is not None and not row.pasted:
                self.add_segmentation(scores, row, masks)
            if row == Row(RECONSTRUCTION, strength):
                for network, reference in self.references.items():
                    check_packages(measured.features[network], reference.features, seed=self.seed)
            scored.append(Scored(row, scores, images, measured.smile, None if row.pasted else masks, milliseconds))
        return scored

    def make(self, method: str, strength: float | None) -> tuple[dict[Row, Tensor], Tensor | None]:
        """Pictures by row, uint8 [N, 3, H, W]; for methods that edit latents also the predicted masks, [N, H, W].

        MaskGAN gets the exact masks of the photos, as in its paper, but no mask of a truly smiling test head.
        """
        photos = self.heads.photos
        if method in self.methods:
            edited = self.methods[method](self.w_plus)(strength)
            plain, pasted, masks = self.renderer.both(edited, photos, self.masks)
            return {Row(method, strength): plain, Row(method, strength, pasted=True): pasted}, masks
        if method == DISTILLATION:
            network = load_module(self.outputs / DISTILLATION / "generator.safetensors", GlobalGenerator)
            pictures = smile(network.to(self.device), photos, batch=BATCH)
        elif method == MASKGAN:
            names = load_classes(self.outputs / "data" / "classes.json").names
            donor = read_mask(self.outputs / MASKGAN / "donor.png", resolution=photos.shape[-1], classes=len(names))
            wanted = smile_masks(self.heads.masks, donor, names)
            pictures = edit(self.maskgan, photos, self.heads.masks, wanted, batch=BATCH)
        else:
            pictures = {INPUT: photos, self.protocol.truth: self.heads.smiling}[method]
        return {Row(method): pictures}, None

    def add_segmentation(self, scores: Scores, row: Row, masks: Tensor) -> None:
        """Compare predicted with exact masks: the mouth with the truly smiling heads, all parts with the photo.

        Args:
            masks: labels  # uint8 [N, H, W]
        """
        if self.heads.smiling_masks is not None:
            iou = segmentation_scores(masks, self.heads.smiling_masks, self.renderer.S.class_names).iou
            found = [iou[part] for part in self.protocol.parts if part in iou]
            column = Column(self.protocol.overlap, "segmentation")
            scores.figures[column] = Figure(len(masks), sum(found) / max(len(found), 1))
        if row.method == RECONSTRUCTION and self.heads.masks is not None:
            right = 100.0 * (masks == self.heads.masks).flatten(1).double().mean(1)  # [N]
            scores.add(Column("segmentation_accuracy"), right, seed=self.seed)

    def embedding(self) -> list[Scored]:
        """Reconstruction metrics of validation heads: by the encoder, after optimisation, and by MaskGAN."""
        path, some = self.outputs / "data" / "val.zip", range(len(self.latents["val"]))
        photos = torch.as_tensor(load_images(path, some))
        made = {
            name: self.renderer.pictures(contextlib.nullcontext(self.latents[entry])) for name, entry in RUNGS.items()
        }
        if has_maskgan(self.outputs):
            masks = torch.as_tensor(load_masks(path, some))
            made[MASKGAN] = edit(self.maskgan, photos, masks, masks, batch=BATCH)
        options = dict(batch=BATCH, device=self.device, kept=f"embedding_{self.protocol.kept}")
        table = score_embedding(photos, made, self.judges, **options)
        return [Scored(row, Scores(figures)) for row, figures in table.items()]

    def measured(self, pictures: Tensor) -> Measured:
        hidden = None if self.protocol.faces else self.heads.region
        options = dict(batch=BATCH, device=self.device, hidden=hidden)
        return measure_row(pictures, self.heads.smiling, self.judges, **options)

    @functools.cached_property
    def photo(self) -> Measured:
        return self.measured(self.heads.photos)

    @functools.cached_property
    def reconstruction(self) -> Measured:
        return self.measured(self.renderer.pictures(contextlib.nullcontext(self.w_plus)))

    @functools.cached_property
    def masks(self) -> Tensor:
        """Predicted masks of the unedited heads, labels, uint8 [N, H, W]."""
        return predict_masks(self.renderer.G, self.renderer.S, self.w_plus)

    @functools.cached_property
    def maskgan(self) -> MaskGAN:
        return load_module(self.outputs / MASKGAN / "generator.safetensors", MaskGAN).to(self.device)

    @functools.cached_property
    def references(self) -> dict[str, Reference]:
        pictures, count = torch.as_tensor(load_images(self.outputs / "data" / "reference.zip")), len(self.heads.photos)
        return {
            name: Reference.of(measure(network, pictures, device=self.device, batch=BATCH), count=count, seed=self.seed)
            for name, network in self.judges.features.items()
        }


def has_maskgan(outputs: Path) -> bool:
    """Whether MaskGAN was trained; it is left out if training pictures have no masks."""
    return json.loads((outputs / MASKGAN / "metrics.json").read_text()).get("train_masks") != 0


def score_rows(
    load: Callable[[], Any],
    jobs: Sequence[tuple[str, float | None]],
    *,
    device: torch.device,
    processes: int | str = "auto",
) -> Iterator[list[Scored]]:
    """Score every job, (method, strength), in several processes; yields in the order of `jobs`.

    Args:
        load: called in each process; returns an object with a method `score`; must be picklable
        processes: `auto` is one per CPU core, or one for a GPU
    """
    wanted = processes_on(device) if processes == "auto" else int(processes)
    processes = min(wanted, len(jobs))
    if processes == 1:
        rows = load()
        yield from (rows.score(*job) for job in jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _start, (load,)) as pool:
        for packed in pool.imap(_score, jobs):
            yield [_unpacked(one) for one in packed]


def processes_on(device: torch.device) -> int:
    """One per CPU core; one for a GPU."""
    return len(os.sched_getaffinity(0)) if device.type == "cpu" else 1


_here: dict[str, Any] = {}  # state of a worker process


def _start(load: Callable[[], Any]) -> None:
    """Initialise a worker."""
    die_with_stage()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    _here["rows"] = load()


def _score(job: tuple[str, float | None]) -> list[tuple]:
    """Return arrays, since tensors would use shared memory, which is not available everywhere."""
    return [
        (
            one.row,
            one.scores.figures,
            {column: values.numpy() for column, values in one.scores.heads.items()},
            *(None if part is None else part.numpy() for part in (one.pictures, one.smile, one.masks)),
            one.ms_per_head,
        )
        for one in _here["rows"].score(*job)
    ]


def _unpacked(packed: tuple) -> Scored:
    row, figures, heads, *arrays, milliseconds = packed

    def tensor(array: np.ndarray | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(array)

    scores = Scores(figures, {column: torch.from_numpy(values) for column, values in heads.items()})
    return Scored(row, scores, *map(tensor, arrays), milliseconds)
