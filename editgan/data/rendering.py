"""Render heads: the splits of stage `data`, and on demand the training heads (module `training`)."""

import functools
from pathlib import Path

import numpy as np

from editgan.config import Params
from editgan.data.archive import Made, encode_image, encode_mask, save_classes
from editgan.data.blocks import Blocks, Context, make_blocks, write_split
from editgan.data.mesh import load_head_mesh
from editgan.data.paint import CLASSES
from editgan.data.render import LABELS_VERSION, VERSION, render
from editgan.data.splits import sample_head
from editgan.runtime.process import die_with_stage
from editgan.weights import write_json

SUPERSAMPLE = 2  # samples per pixel and axis when rendering heads


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
    total, before, metrics, finished = sum(counts.values()), 0, {}, []
    for split, count in counts.items():
        made, metrics[split] = render_split(context, split, count, context.work, context.out, before, total)
        finished += made.paths
        before += count
    write_json(context.out / "recipe.json", heads_recipe(context.params))
    write_json(context.out / "labels.json", heads_labels())
    write_json(context.out / "metrics.json", metrics)
    return finished


def render_split(
    context: Context, split: str, count: int, work: Path, out: Path, before: int, total: int
) -> tuple[Blocks, dict]:
    """Render a split on all cores and write its archive; returns its blocks in `work`, and its summary.

    `before`: number of heads already rendered, of `total`, for the progress.
    """
    params = context.params
    task = functools.partial(
        render_one,
        split=split,
        seed=params.seed,
        few_shot=params.data.few_shot,
        resolution=params.resolution,
    )
    made = make_blocks(
        task,
        range(count),
        work,
        lambda start, _: f"{split}_{start:06d}.zip",
        prepare=prepare,
        on_block=lambda done: context.run.progress(before + done, total, "heads", split),
    )
    attributes = [record["attributes"] for record in made.records]
    return made, write_split(out, split, made, range(count), attributes, CLASSES)


def prepare() -> None:
    """Load the mesh once per worker process; exit when the stage ends, even after `kill -9`."""
    die_with_stage()
    load_head_mesh()


def render_one(index: int, *, split: str, seed: int, few_shot: int, resolution: int) -> Made:
    """Render head `index` of a split and encode it."""
    mesh = load_head_mesh()
    head = sample_head(mesh, split, index, seed=seed, few_shot=few_shot)
    image, mask = render(mesh, head.who, head.expression, head.view, resolution=resolution, supersample=SUPERSAMPLE)
    pixels = np.bincount(mask.ravel(), minlength=len(CLASSES.names)).tolist()
    record = {"attributes": head.attributes(), "pixels": pixels}
    return encode_image(image), encode_mask(mask, CLASSES.palette), record


def heads_recipe(params: Params) -> dict:
    """Everything that determines the pictures of rendered heads."""
    made_of = params.data.model_dump(exclude={"source", "folder"}) | {"supersample": SUPERSAMPLE}
    return {"renderer": VERSION, "seed": params.seed, "resolution": params.resolution, "data": made_of}


def heads_labels() -> dict:
    """What determines their part masks; a new class does not change the pictures' recipe."""
    return {"labels": LABELS_VERSION, "classes": list(CLASSES.names)}
