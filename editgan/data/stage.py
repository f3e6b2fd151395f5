"""Stage `data`: the pictures of every split, rendered or read from a folder, in the same archives."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch

from editgan.data.archive import (
    Classes,
    load_attributes,
    load_classes,
    load_encoded,
    load_images,
    load_masks,
    save_classes,
    write_archive,
)
from editgan.data.collect import (
    choose,
    heads_labels,
    heads_recipe,
    person_of,
    pictures_labels,
    pictures_recipe,
    rejected_csv,
    signature,
)
from editgan.data.paint import CLASSES
from editgan.data.reading import read_one
from editgan.data.sources import celeba_hq, folder
from editgan.data.sources.listing import Item, Listing, Rejected
from editgan.data.splits import SPLITS
from editgan.data.worker import prepare, render_one
from editgan.environment import home_project
from editgan.errors import UserError
from editgan.images import colourize, image_grid, save_png
from editgan.process import die_with_stage
from editgan.stage import StageContext
from editgan.weights import write_bytes, write_json

SOURCES = {"folder": folder.list_pictures, "celeba_hq": celeba_hq.list_pictures}
BLOCK = 500  # heads that are kept together in the work folder, where an interrupted run goes on
CHUNK = 16  # heads that a worker renders or reads at a time
SAMPLES = 32  # heads of the pool in samples.png
REJECTED = "rejected.csv"  # of a source, written before anything is fatal; no output, as the rendered heads have none


def run(context: StageContext) -> None:
    """Make all splits in outputs/data."""
    params = context.params.data
    (context.out / REJECTED).unlink(missing_ok=True)
    make = render_heads if params.source == "heads" else read_pictures
    blocks = make(context)
    save_samples(context, min(SAMPLES, params.pool))
    context.run.log_image(context.out / "samples.png", "samples")
    for block in blocks:
        block.unlink()


def render_heads(context: StageContext) -> list[Path]:
    """Render all splits; returns the blocks that can go."""
    params = context.params.data
    counts = {
        "train": params.train,
        "pool": params.pool,
        "val": params.val,
        "test": params.test,
        "test_smiling": params.test,
        "reference": params.reference,
    }
    settings = {
        "seed": context.params.seed,
        "few_shot": params.few_shot,
        "resolution": context.params.resolution,
        "supersample": params.supersample,
    }
    save_classes(context.out / "classes.json", CLASSES)
    total, done, metrics, blocks = sum(counts.values()), 0, {}, []
    with workers(prepare) as pool:
        for split in SPLITS:
            task = functools.partial(render_one, split=split, **settings)
            images, masks, attributes, pixels = [], [], [], []
            for start in range(0, counts[split], BLOCK):
                indices = range(start, min(start + BLOCK, counts[split]))
                block = context.work / f"{split}_{start:06d}.zip"
                if not block.exists():
                    write_archive(block, *zip(*pool.imap(task, indices, chunksize=CHUNK), strict=True))
                done += len(indices)
                context.run.progress(done, total, "heads", split)
                for row, values in zip((images, masks, attributes), load_encoded(block), strict=True):
                    row.extend(values)
                pixels += [np.bincount(mask.ravel(), minlength=len(CLASSES.names)) for mask in load_masks(block)]
                blocks.append(block)
            write_split(context.out, split, images, masks, attributes)
            metrics[split] = _summary(np.stack(pixels), attributes, CLASSES)
    recipe = heads_recipe(params, seed=context.params.seed, resolution=context.params.resolution)
    write_json(context.out / "recipe.json", recipe)
    write_json(context.out / "labels.json", heads_labels())
    write_json(context.out / "metrics.json", metrics)
    return blocks


def read_pictures(context: StageContext) -> list[Path]:
    """Read a source, tell every file that cannot be used, fill the splits; returns the blocks that can go.

    Raises:
        UserError: no such folder, a missing table, or too few pictures for the splits asked for.
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
        print(f"files not used ({context.out / REJECTED}): {len(rejected)}")
        print("\n".join(f"  {file}: {reason}" for file, reason in rejected), flush=True)

    save_classes(context.out / "classes.json", listing.classes)
    people = {person: number for number, person in enumerate(sorted({person_of(item) for item in items}))}
    metrics: dict = {"rejected": len(rejected), "people": len(people)}
    with contextlib.ExitStack() as stack:
        archives = [stack.enter_context(zipfile.ZipFile(block)) for block in blocks]

        def stored(kind: str, indices: list[int]) -> Iterator[bytes]:
            for index in (usable[index] for index in indices):
                yield archives[index // BLOCK].read(f"{kind}/{index % BLOCK:05d}.png")

        for split in SPLITS:
            mine = chosen[split]
            pixels = np.array([records[index]["pixels"] for index in mine]).reshape(-1, len(listing.classes.names))
            masks = stored("mask", mine) if pixels.any(axis=1).all() else None
            attributes = [
                {**records[index]["attributes"], "identity": people[person_of(items[index])], "file": items[index].file}
                for index in mine
            ]
            write_split(context.out, split, stored("img", mine), masks, attributes)
            if mine:
                metrics[split] = _summary(pixels, attributes, listing.classes)
    write_json(context.out / "recipe.json", pictures_recipe(params, items, records, seed=seed, resolution=resolution))
    write_json(context.out / "labels.json", pictures_labels(items, records, listing.classes))
    write_json(context.out / "metrics.json", metrics)
    context.run.log_file(context.out / REJECTED)
    return blocks


def read_listing(context: StageContext, root: Path, listing: Listing) -> tuple[list[Path], list[tuple[Item, dict]]]:
    """Read all pictures, a block at a time; finished blocks wait in the work folder while their files stay as they are.

    Returns:
        the blocks, and each item with what is known of it, or the reason why it cannot be used.
    """
    task = functools.partial(read_one, root=root, resolution=context.params.resolution, classes=listing.classes)
    blocks, known = [], []
    with workers(die_with_stage) as pool:
        for start in range(0, len(listing.items), BLOCK):
            items = listing.items[start : start + BLOCK]
            block = context.work / f"read_{start:06d}_{signature(root, items)}.zip"
            if not block.exists():
                write_archive(block, *zip(*pool.imap(task, items, chunksize=CHUNK), strict=True))
            known += zip(items, load_attributes(block), strict=True)
            context.run.progress(len(known), len(listing.items), "pictures", context.params.data.source)
            blocks.append(block)
    return blocks, known


def workers(initializer: Callable[[], None]) -> Pool:
    """One process a core."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["editgan.data.worker", "editgan.data.reading"])
    return processes.Pool(max(1, len(os.sched_getaffinity(0))), initializer)


def write_split(
    out: Path, split: str, images: Iterator[bytes] | list, masks: Iterator[bytes] | list | None, attributes: list[dict]
) -> None:
    """The archive of a split; masks and attributes of train, which the generator must not see, in one of their own."""
    if split == "train":
        write_archive(out / "train.zip", images=images)
        write_archive(out / "train_labels.zip", masks=masks, attributes=attributes)
    else:
        write_archive(out / f"{split}.zip", images=images, masks=masks, attributes=attributes)


def _summary(pixels: np.ndarray, attributes: list[dict], classes: Classes) -> dict:
    """Counts of a split: mean pixels of each class, images that show it, and how many smile."""
    return {
        "images": len(attributes),
        "smiling": sum(a["smile"] > 0 for a in attributes),
        "mean_pixels": {name: float(pixels[:, k].mean()) for k, name in enumerate(classes.names)},
        "images_with": {name: int((pixels[:, k] > 0).sum()) for k, name in enumerate(classes.names)},
    }


def save_samples(context: StageContext, count: int) -> None:
    """samples.png: heads of the pool, each beside its mask, where it has one."""
    path = context.out / "pool.zip"
    shown = [torch.from_numpy(load_images(path, range(count)))]  # [N, 3, H, W]
    with zipfile.ZipFile(path) as archive:
        masked = "mask/00000.png" in archive.namelist()
    if masked:
        palette = torch.from_numpy(load_classes(context.out / "classes.json").palette)
        shown.append(colourize(torch.from_numpy(load_masks(path, range(count))), palette))
    pairs = torch.stack(shown, 1).flatten(0, 1)  # [2 N, 3, H, W]
    scale = max(1, 128 // context.params.resolution)
    save_png(context.out / "samples.png", image_grid(pairs, columns=8, scale=scale))
