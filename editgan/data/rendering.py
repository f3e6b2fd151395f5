"""Render heads: the splits of stage `data`, and the training heads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from editgan.config import Params
from editgan.data import blocks
from editgan.data.archive import load_masks, save_classes, write_archive
from editgan.data.blocks import Context
from editgan.data.collect import heads_labels, heads_recipe
from editgan.data.paint import CLASSES
from editgan.data.worker import prepare, render_one
from editgan.weights import write_json


def render_heads(context: Context) -> list[Path]:
    """Render all splits except train, which `editgan.data.training` renders on demand.

    Returns:
        the blocks that can be deleted
    """
    params = context.params.data
    for stale in ("train.zip", "train_labels.zip"):  # left by an earlier source
        (context.out / stale).unlink(missing_ok=True)
    counts = {"pool": params.pool, "val": params.val, "test": params.test, "test_smiling": params.test}
    counts["reference"] = params.reference
    save_classes(context.out / "classes.json", CLASSES)
    total, done, metrics, finished = sum(counts.values()), 0, {}, []
    for split, count in counts.items():

        def show(rendered: int, before: int = done, split: str = split) -> None:
            context.run.progress(before + rendered, total, "heads", split)

        made = render_split(split, count, context.params, context.work, show)
        images, masks, attributes = blocks.load_blocks(made)
        blocks.write_split(context.out, split, images, masks, attributes)
        labels = (mask for block in made for mask in load_masks(block))
        pixels = [np.bincount(mask.ravel(), minlength=len(CLASSES.names)) for mask in labels]
        metrics[split] = blocks.summary(np.stack(pixels), attributes, CLASSES)
        finished += made
        done += count
    recipe = heads_recipe(params, seed=context.params.seed, resolution=context.params.resolution)
    write_json(context.out / "recipe.json", recipe)
    write_json(context.out / "labels.json", heads_labels())
    write_json(context.out / "metrics.json", metrics)
    return finished


def render_split(split: str, count: int, params: Params, work: Path, on_block: Callable[[int], None]) -> list[Path]:
    """Render the heads of a split on all cores, block by block; finished blocks in `work` are reused."""
    settings = {
        "seed": params.seed,
        "few_shot": params.data.few_shot,
        "resolution": params.resolution,
        "supersample": params.data.supersample,
    }
    task, made = functools.partial(render_one, split=split, **settings), []
    with blocks.workers(prepare) as pool:
        for start in range(0, count, blocks.BLOCK):
            indices = range(start, min(start + blocks.BLOCK, count))
            block = work / f"{split}_{start:06d}.zip"
            if not block.exists():
                write_archive(block, *zip(*pool.imap(task, indices, chunksize=blocks.CHUNK), strict=True))
            on_block(indices.stop)
            made.append(block)
    return made
