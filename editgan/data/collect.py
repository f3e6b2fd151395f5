"""Assign the pictures that were read from a source to splits, report rejected files, write the recipe of the data."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from editgan.data import reading, render
from editgan.data.archive import Classes
from editgan.data.assign import Picture, assign, covering_first
from editgan.data.paint import CLASSES
from editgan.data.params import DataParams
from editgan.data.sources.listing import Item, Rejected
from editgan.errors import UserError

COUNTED = ("train", "pool", "val", "test", "reference")


def signature(root: Path, items: Sequence[Item]) -> str:
    """Hash of the items' properties and of the sizes and modification times of their files."""
    files = [file for item in items for file in (item.file, *(mask for mask, _ in item.masks))]
    known = [_size_and_time(root / file) for file in files]
    return hashlib.sha256(json.dumps([[asdict(item) for item in items], known]).encode()).hexdigest()[:16]


def _size_and_time(path: Path) -> list[int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def rejected_csv(rejected: Sequence[Rejected]) -> bytes:
    """One row per file: file, reason."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Rejected._fields, *rejected])
    return text.getvalue().encode()


def choose(
    items: Sequence[Item], records: Sequence[dict], params: DataParams, seed: int, rejected: Sequence[Rejected]
) -> dict[str, list[int]]:
    """Assign items to splits; the labelled items come first in the pool.

    Raises:
        UserError: too few pictures for the requested splits; the message lists every rejected file.
    """
    pictures = [
        Picture(person_of(item), item.partition, any(record["pixels"]), record["attributes"]["smile"] > 0)
        for item, record in zip(items, records, strict=True)
    ]
    counts = {split: getattr(params, split) for split in COUNTED}
    chosen = assign(pictures, counts, seed)
    short = [split for split in COUNTED if len(chosen[split]) < counts[split]]
    if short:
        lines = [f"  {split}: {counts[split]} requested (data.{split}), {len(chosen[split])} found" for split in short]
        listed = "".join(f"\n  {file}: {reason}" for file, reason in rejected)
        raise UserError(
            (f"rejected files: {len(rejected)}{listed}\n" if rejected else "")
            + f"{params.folder}: too few pictures: {len(pictures)} are usable:\n"
            + "\n".join(lines)
            + "\nAll pictures of a person belong to one split (and one partition, if there is one); test pictures do"
            " not smile; if any pictures have masks, the pool holds only pictures with masks"
        )
    smiles = [[pictures[index].smiles, not pictures[index].smiles] for index in chosen["pool"]]
    shown = [np.array(records[index]["pixels"]) > 0 for index in chosen["pool"]]  # [N, K]
    order = covering_first(np.concatenate([np.array(shown), np.array(smiles)], axis=1), params.few_shot)
    pool = [chosen["pool"][place] for place in order]
    return chosen | {"pool": pool, "test_smiling": smiling_ones(items, chosen["test"])}


def smiling_ones(items: Sequence[Item], test: Sequence[int]) -> list[int]:
    """For each test picture, the same person's smiling picture that names it as `neutral`; empty if any lacks one."""
    smiling = {item.attributes["neutral"]: index for index, item in enumerate(items) if "neutral" in item.attributes}
    found = [smiling.get(items[index].file.removeprefix("images/")) for index in test]
    missing = found.count(None)
    if 0 < missing < len(found):
        print(f"no true smiles in the benchmark: {missing} of {len(found)} test pictures have none", flush=True)
    return [] if missing else found


def person_of(item: Item) -> str:
    """The person on the picture; if unknown, a person of which this is the only picture."""
    return f"person {item.person}" if item.person is not None else f"file {item.file}"


def heads_recipe(params: DataParams, *, seed: int, resolution: int) -> dict:
    """Recipe of the rendered heads: everything that determines their pictures."""
    made_of = params.model_dump(exclude={"source", "folder"})
    return {"renderer": render.VERSION, "seed": seed, "resolution": resolution, "data": made_of}


def heads_labels() -> dict:
    """Recipe of the part masks of rendered heads; a new class does not change the pictures' recipe."""
    return {"labels": render.LABELS_VERSION, "classes": list(CLASSES.names)}


def pictures_recipe(
    params: DataParams, items: Sequence[Item], records: Sequence[dict], *, seed: int, resolution: int
) -> dict:
    """Recipe of the pictures of a source: the source, a hash of all pictures, and the size of each split."""
    content = [
        [item.file, item.person, item.partition, item.attributes, record["digest"]]
        for item, record in zip(items, records, strict=True)
    ]
    return {
        "source": params.source,
        "content": _hash(content),
        "reader": reading.VERSION,
        "seed": seed,
        "resolution": resolution,
        "data": params.model_dump(include={*COUNTED, "few_shot"}),
    }


def pictures_labels(items: Sequence[Item], records: Sequence[dict], classes: Classes) -> dict:
    """Recipe of the part masks of a source: their files, how they are read, and the classes."""
    content = [
        [item.file, [label for _, label in item.masks], record["mask_digest"]]
        for item, record in zip(items, records, strict=True)
    ]
    return {"content": _hash(content), "reader": reading.VERSION, "classes": list(classes.names)}


def _hash(content: list) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
