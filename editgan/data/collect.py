"""From what was read of a source to its splits: rejected files told, people divided, and the recipe of the data."""

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
    """Changes with what is known of the items and with the sizes and times of their files."""
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
    """A row a file: file, reason."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Rejected._fields, *rejected])
    return text.getvalue().encode()


def choose(
    items: Sequence[Item], records: Sequence[dict], params: DataParams, seed: int, rejected: Sequence[Rejected]
) -> dict[str, list[int]]:
    """Which items each split holds, the labelled ones first in the pool.

    Raises:
        UserError: too few for the splits asked for; lists every rejected file.
    """
    pictures = [
        Picture(person_of(item), item.partition, any(record["pixels"]), record["attributes"]["smile"] > 0)
        for item, record in zip(items, records, strict=True)
    ]
    counts = {split: getattr(params, split) for split in COUNTED}
    chosen = assign(pictures, counts, seed)
    short = [split for split in COUNTED if len(chosen[split]) < counts[split]]
    if short:
        lines = [f"  {split}: {counts[split]} asked for (data.{split}), {len(chosen[split])} left" for split in short]
        listed = "".join(f"\n  {file}: {reason}" for file, reason in rejected)
        raise UserError(
            (f"rejected files: {len(rejected)}{listed}\n" if rejected else "")
            + f"{params.folder}: too few pictures, {len(pictures)} can be used:\n"
            + "\n".join(lines)
            + "\nA person's pictures lie in one split, of its partition if it has one; test pictures do not smile;"
            " the pool has masks, if any has"
        )
    smiles = [[pictures[index].smiles, not pictures[index].smiles] for index in chosen["pool"]]
    shown = [np.array(records[index]["pixels"]) > 0 for index in chosen["pool"]]  # [N, K]
    order = covering_first(np.concatenate([np.array(shown), np.array(smiles)], axis=1), params.few_shot)
    pool = [chosen["pool"][place] for place in order]
    return chosen | {"pool": pool, "test_smiling": smiling_ones(items, chosen["test"])}


def smiling_ones(items: Sequence[Item], test: Sequence[int]) -> list[int]:
    """The smiling picture of each test picture's person, which names it as `neutral`; none if one has none."""
    smiling = {item.attributes["neutral"]: index for index, item in enumerate(items) if "neutral" in item.attributes}
    found = [smiling.get(items[index].file.removeprefix("images/")) for index in test]
    missing = found.count(None)
    if 0 < missing < len(found):
        print(f"no true smiles in the benchmark: {missing} of {len(found)} test pictures name none", flush=True)
    return [] if missing else found


def person_of(item: Item) -> str:
    """Who is on it; nobody else where that is not known."""
    return f"person {item.person}" if item.person is not None else f"file {item.file}"


def heads_recipe(params: DataParams, *, seed: int, resolution: int) -> dict:
    """What the rendered heads are made of."""
    made_of = params.model_dump(exclude={"source", "folder"})
    return {"renderer": render.VERSION, "seed": seed, "resolution": resolution, "data": made_of}


def heads_labels() -> dict:
    """What the part masks of rendered heads are made of. A new class leaves the recipe of the pictures as it is."""
    return {"labels": render.LABELS_VERSION, "classes": list(CLASSES.names)}


def pictures_recipe(
    params: DataParams, items: Sequence[Item], records: Sequence[dict], *, seed: int, resolution: int
) -> dict:
    """What pictures of a source are made of: the source, a hash of all its pictures, how many each split holds."""
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
    """What the part masks of a source are made of: their files, how they are read, the classes."""
    content = [
        [item.file, [label for _, label in item.masks], record["mask_digest"]]
        for item, record in zip(items, records, strict=True)
    ]
    return {"content": _hash(content), "reader": reading.VERSION, "classes": list(classes.names)}


def _hash(content: list) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
