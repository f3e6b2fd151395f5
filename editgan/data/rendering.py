"""Render pictures: the splits of stage `data`, and on demand the training pictures (module `training`)."""

import functools
from pathlib import Path

import numpy as np

from editgan.config import Params
from editgan.data.archive import Made, encode_image, encode_mask, save_classes
from editgan.data.blocks import Blocks, Context, make_blocks, write_split
from editgan.data.renderers import RENDERERS, SUPERSAMPLE
from editgan.runtime.process import die_with_stage
from editgan.weights import write_json


def render_splits(context: Context) -> list[Path]:
    """Render all splits except train, which `editgan.data.training` renders on demand.

    Returns:
        the blocks that can be deleted
    """
    params = context.params.data
    for stale in ("train.zip", "train_labels.zip"):  # left by an earlier source
        (context.out / stale).unlink(missing_ok=True)
    counts = {"pool": params.pool, "val": params.val, "test": params.test, "test_smiling": params.test}
    counts["reference"] = params.reference
    save_classes(context.out / "classes.json", RENDERERS[params.source].classes)
    total, before, metrics, finished = sum(counts.values()), 0, {}, []
    for split, count in counts.items():
        made, metrics[split] = render_split(context, split, count, context.work, context.out, before, total)
        finished += made.paths
        before += count
    write_json(context.out / "recipe.json", rendered_recipe(context.params))
    write_json(context.out / "labels.json", rendered_labels(params.source))
    write_json(context.out / "metrics.json", metrics)
    return finished


def render_split(
    context: Context, split: str, count: int, work: Path, out: Path, before: int, total: int
) -> tuple[Blocks, dict]:
    """Render a split on all cores and write its archive; returns its blocks in `work`, and its summary.

    `before`: number of pictures already rendered, of `total`, for the progress.
    """
    params = context.params
    source = params.data.source
    task = functools.partial(
        render_one,
        source=source,
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
        prepare=functools.partial(prepare, source),
        on_block=lambda done: context.run.progress(before + done, total, source, split),
    )
    attributes = [record["attributes"] for record in made.records]
    return made, write_split(out, split, made, range(count), attributes, RENDERERS[source].classes)


def prepare(source: str = "heads") -> None:
    """Load what a renderer needs, once per worker process; exit when the stage ends, even after `kill -9`."""
    die_with_stage()
    RENDERERS[source].prepare()


def render_one(index: int, *, source: str = "heads", split: str, seed: int, few_shot: int, resolution: int) -> Made:
    """Render picture `index` of a split and encode it."""
    renderer = RENDERERS[source]
    image, mask, attributes = renderer.draw(split, index, seed=seed, few_shot=few_shot, resolution=resolution)
    pixels = np.bincount(mask.ravel(), minlength=len(renderer.classes.names)).tolist()
    record = {"attributes": attributes, "pixels": pixels}
    return encode_image(image), encode_mask(mask, renderer.classes.palette), record


def rendered_recipe(params: Params) -> dict:
    """Everything that determines rendered pictures. That of heads names no source: all shipped models depend on it."""
    source = params.data.source
    made_of = params.data.model_dump(exclude={"source", "folder"}) | {"supersample": SUPERSAMPLE}
    version = RENDERERS[source].version
    recipe = {"renderer": version, "seed": params.seed, "resolution": params.resolution, "data": made_of}
    return recipe if source == "heads" else {"source": source, **recipe}


def rendered_labels(source: str) -> dict:
    """What determines their part masks; a new part class does not change the pictures' recipe."""
    renderer = RENDERERS[source]
    return {"labels": renderer.labels_version, "classes": list(renderer.classes.names)}
