"""Shared by rendered and read pictures: blocks of them in the work folder, and the archives of the splits."""

import contextlib
import multiprocessing
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from editgan.data.archive import Classes, Made, load_attributes, write_archive
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


@dataclass(frozen=True)
class Blocks:
    """Archives of BLOCK pictures each, and a record of every picture: `attributes`, `pixels` of each class, ..."""

    paths: list[Path]
    records: list[dict]

    def read(self, folder: str, indices: Sequence[int]) -> Iterator[bytes]:
        """PNG bytes of pictures (`img`) or masks (`mask`)."""
        with contextlib.ExitStack() as stack:
            archives = [stack.enter_context(zipfile.ZipFile(path)) for path in self.paths]
            for index in indices:
                yield archives[index // BLOCK].read(f"{folder}/{index % BLOCK:05d}.png")


def make_blocks(
    task: Callable[[Any], Made],
    items: Sequence,
    work: Path,
    name: Callable[[int, Sequence], str],
    *,
    prepare: Callable[[], None],
    on_block: Callable[[int], None],
) -> Blocks:
    """Make pictures on all cores, block by block; finished blocks in `work` are reused.

    Args:
        name: (index of the first item, items of a block) -> file name
        prepare: called once in every worker process
        on_block: called with the number of pictures done
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["editgan.data.rendering", "editgan.data.reading"])
    paths, records = [], []
    with processes.Pool(max(1, len(os.sched_getaffinity(0))), prepare) as pool:
        for start in range(0, len(items), BLOCK):
            part = items[start : start + BLOCK]
            path = work / name(start, part)
            if not path.exists():
                write_archive(path, *zip(*pool.imap(task, part, chunksize=CHUNK), strict=True))
            paths.append(path)
            records += load_attributes(path)
            on_block(len(records))
    return Blocks(paths, records)


def write_split(
    out: Path, split: str, made: Blocks, indices: Sequence[int], attributes: list[dict], classes: Classes
) -> dict:
    """Write the archive of a split, with masks if all its pictures have one.

    Masks and attributes of train go to a second archive, hidden from the generator.

    Returns:
        number of pictures and, of faces, of smiling ones, mean pixels of each class, and number of pictures that show
        it.
    """
    pixels = np.array([made.records[index]["pixels"] for index in indices]).reshape(-1, len(classes.names))
    images = made.read("img", indices)
    masks = made.read("mask", indices) if pixels.any(axis=1).all() else None
    if split == "train":
        write_archive(out / "train.zip", images=images)
        write_archive(out / "train_labels.zip", masks=masks, attributes=attributes)
    else:
        write_archive(out / f"{split}.zip", images=images, masks=masks, attributes=attributes)
    smiles = [row["smile"] > 0 for row in attributes if "smile" in row]
    faces = {"smiling": sum(smiles)} if len(smiles) == len(attributes) else {}
    return {
        "images": len(attributes),
        **faces,
        "mean_pixels": {name: float(pixels[:, k].sum() / max(1, len(pixels))) for k, name in enumerate(classes.names)},
        "images_with": {name: int((pixels[:, k] > 0).sum()) for k, name in enumerate(classes.names)},
    }
