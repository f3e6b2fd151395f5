"""Stage `data`: render the heads of every split."""

from __future__ import annotations

import functools
import multiprocessing
import os

import numpy as np
import torch

from editgan.data.archive import load_encoded, load_images, load_masks, save_classes, write_archive
from editgan.data.paint import CLASSES
from editgan.data.render import VERSION
from editgan.data.splits import SPLITS
from editgan.data.worker import prepare, render_one
from editgan.images import colourize, image_grid, save_png
from editgan.stage import StageContext
from editgan.weights import write_json

BLOCK = 500  # heads that are kept together in the work folder, where an interrupted run goes on
CHUNK = 16  # heads that a worker renders at a time
SAMPLES = 32  # heads of the pool in samples.png


def run(context: StageContext) -> None:
    """Render all splits into outputs/data."""
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
    workers = max(1, len(os.sched_getaffinity(0)))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["editgan.data.worker"])
    with processes.Pool(workers, prepare) as pool:
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
            if split == "train":
                write_archive(context.out / "train.zip", images=images)
                write_archive(context.out / "train_labels.zip", masks=masks, attributes=attributes)
            else:
                write_archive(context.out / f"{split}.zip", images=images, masks=masks, attributes=attributes)
            metrics[split] = _summary(np.stack(pixels), attributes)
    recipe = {
        "renderer": VERSION,
        "seed": context.params.seed,
        "resolution": context.params.resolution,
        "data": params.model_dump(),
    }
    write_json(context.out / "recipe.json", recipe)
    write_json(context.out / "metrics.json", metrics)
    save_samples(context, min(SAMPLES, params.pool))
    context.run.log_image(context.out / "samples.png", "samples")
    for block in blocks:
        block.unlink()


def _summary(pixels: np.ndarray, attributes: list[dict]) -> dict:
    """Counts of a split: mean pixels of each class, images that show it, and how many smile."""
    return {
        "images": len(attributes),
        "smiling": sum(a["smile"] > 0 for a in attributes),
        "mean_pixels": {name: float(pixels[:, k].mean()) for k, name in enumerate(CLASSES.names)},
        "images_with": {name: int((pixels[:, k] > 0).sum()) for k, name in enumerate(CLASSES.names)},
    }


def save_samples(context: StageContext, count: int) -> None:
    """samples.png: heads of the pool, each beside its mask."""
    path = context.out / "pool.zip"
    images = torch.from_numpy(load_images(path, range(count)))  # [N, 3, H, W]
    masks = colourize(torch.from_numpy(load_masks(path, range(count))), torch.from_numpy(CLASSES.palette))
    pairs = torch.stack([images, masks], 1).flatten(0, 1)  # [2 N, 3, H, W]
    scale = max(1, 128 // context.params.resolution)
    save_png(context.out / "samples.png", image_grid(pairs, columns=8, scale=scale))
