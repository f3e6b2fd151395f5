"""Pictures of a source (a folder or CelebA-HQ): read, checked, assigned to splits."""

from __future__ import annotations

import contextlib
import functools
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from editgan.data import blocks as shared
from editgan.data.archive import load_attributes, save_classes, write_archive
from editgan.data.blocks import Context
from editgan.data.collect import choose, person_of, pictures_labels, pictures_recipe, rejected_csv, signature
from editgan.data.reading import read_one
from editgan.data.sources import celeba_hq, folder
from editgan.data.sources.listing import Item, Listing, Rejected
from editgan.data.splits import SPLITS
from editgan.errors import UserError
from editgan.runtime.environment import home_project
from editgan.runtime.process import die_with_stage
from editgan.weights import write_bytes, write_json

SOURCES = {"folder": folder.list_pictures, "celeba_hq": celeba_hq.list_pictures}
REJECTED = "rejected.csv"  # written before any error is raised; not an output, as rendered heads have none


def read_pictures(context: Context) -> list[Path]:
    """Read a source, report every rejected file and fill the splits; returns the blocks that can be deleted.

    Raises:
        UserError: missing folder or table, or too few pictures for the requested splits.
    """
    params, seed, resolution = context.params.data, context.params.seed, context.params.resolution
    root = home_project(context.root) / params.folder
    if not root.is_dir():
        raise UserError(f"data.folder {params.folder}: no such folder ({root}); docs/data.md describes the layout")
    listing = SOURCES[params.source](root)
    blocks, everything = read_listing(context, root, listing)
    rejected = [Rejected(item.file, record["reason"]) for item, record in everything if "reason" in record]
    rejected = sorted({*listing.rejected, *rejected})
    write_bytes(context.out / REJECTED, rejected_csv(rejected))
    usable = [index for index, (_, record) in enumerate(everything) if "reason" not in record]
    items, records = [everything[index][0] for index in usable], [everything[index][1] for index in usable]
    chosen = choose(items, records, params, seed, rejected)
    if rejected:
        print(f"rejected files ({context.out / REJECTED}): {len(rejected)}")
        print("\n".join(f"  {file}: {reason}" for file, reason in rejected), flush=True)

    save_classes(context.out / "classes.json", listing.classes)
    people = {person: number for number, person in enumerate(sorted({person_of(item) for item in items}))}
    metrics: dict = {"rejected": len(rejected), "people": len(people)}
    with contextlib.ExitStack() as stack:
        archives = [stack.enter_context(zipfile.ZipFile(block)) for block in blocks]

        def stored(kind: str, indices: list[int]) -> Iterator[bytes]:
            for index in (usable[index] for index in indices):
                yield archives[index // shared.BLOCK].read(f"{kind}/{index % shared.BLOCK:05d}.png")

        for split in SPLITS:
            mine = chosen[split]
            pixels = np.array([records[index]["pixels"] for index in mine]).reshape(-1, len(listing.classes.names))
            masks = stored("mask", mine) if pixels.any(axis=1).all() else None
            attributes = [
                {**records[index]["attributes"], "identity": people[person_of(items[index])], "file": items[index].file}
                for index in mine
            ]
            shared.write_split(context.out, split, stored("img", mine), masks, attributes)
            if mine:
                metrics[split] = shared.summary(pixels, attributes, listing.classes)
    write_json(context.out / "recipe.json", pictures_recipe(params, items, records, seed=seed, resolution=resolution))
    write_json(context.out / "labels.json", pictures_labels(items, records, listing.classes))
    write_json(context.out / "metrics.json", metrics)
    context.run.log_file(context.out / REJECTED)
    return blocks


def read_listing(context: Context, root: Path, listing: Listing) -> tuple[list[Path], list[tuple[Item, dict]]]:
    """Read all pictures block by block; finished blocks in the work folder are reused while their files are unchanged.

    Returns:
        the blocks, and each item with its properties, or with the reason for its rejection.
    """
    task = functools.partial(read_one, root=root, resolution=context.params.resolution, classes=listing.classes)
    blocks, known = [], []
    with shared.workers(die_with_stage) as pool:
        for start in range(0, len(listing.items), shared.BLOCK):
            items = listing.items[start : start + shared.BLOCK]
            block = context.work / f"read_{start:06d}_{signature(root, items)}.zip"
            if not block.exists():
                write_archive(block, *zip(*pool.imap(task, items, chunksize=shared.CHUNK), strict=True))
            known += zip(items, load_attributes(block), strict=True)
            context.run.progress(len(known), len(listing.items), "pictures", context.params.data.source)
            blocks.append(block)
    return blocks, known
