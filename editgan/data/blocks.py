"""Shared by rendering and reading: blocks of pictures in the work folder, worker processes, archives of a split."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from editgan.data.archive import Classes, load_encoded, write_archive
from editgan.runtime.tracking import Run

BLOCK = 500  # pictures per block in the work folder; an interrupted run resumes at the next block
CHUNK = 16  # pictures per task of a worker process


class Context(Protocol):
    """The part of a stage's context that rendering and reading use."""

    params: Any
    root: Path
    out: Path
    work: Path
    run: Run

    def input(self, stage: str) -> Path: ...


def workers(initializer: Callable[[], None]) -> Pool:
    """A pool with one process per core."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["editgan.data.worker", "editgan.data.reading"])
    return processes.Pool(max(1, len(os.sched_getaffinity(0))), initializer)


def load_blocks(blocks: list[Path]) -> tuple[list[bytes], list[bytes], list[dict]]:
    """PNG bytes of pictures and masks, and the attributes, of all blocks."""
    rows: tuple[list, list, list] = ([], [], [])
    for block in blocks:
        for row, values in zip(rows, load_encoded(block), strict=True):
            row.extend(values)
    return rows


def write_split(
    out: Path, split: str, images: Iterator[bytes] | list, masks: Iterator[bytes] | list | None, attributes: list[dict]
) -> None:
    """Write the archive of a split; masks and attributes of train go to a second one, hidden from the generator."""
    if split == "train":
        write_archive(out / "train.zip", images=images)
        write_archive(out / "train_labels.zip", masks=masks, attributes=attributes)
    else:
        write_archive(out / f"{split}.zip", images=images, masks=masks, attributes=attributes)


def summary(pixels: np.ndarray, attributes: list[dict], classes: Classes) -> dict:
    """Statistics of a split: mean pixels per class, images that show each class, and the number of smiling images."""
    return {
        "images": len(attributes),
        "smiling": sum(a["smile"] > 0 for a in attributes),
        "mean_pixels": {name: float(pixels[:, k].mean()) for k, name in enumerate(classes.names)},
        "images_with": {name: int((pixels[:, k] > 0).sum()) for k, name in enumerate(classes.names)},
    }
