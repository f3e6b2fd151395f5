"""Worker process of stage `data`: render and encode one head. Imports neither torch nor MLflow."""

from __future__ import annotations

from editgan.data.archive import encode_image, encode_mask
from editgan.data.mesh import load_head_mesh
from editgan.data.paint import CLASSES
from editgan.data.render import render
from editgan.data.splits import sample_head
from editgan.runtime.process import die_with_stage

Rendered = tuple[bytes, bytes, dict]  # image, mask, attributes


def prepare() -> None:
    """Load the mesh once per process; exit when the stage ends, even after `kill -9`."""
    die_with_stage()
    load_head_mesh()


def render_one(index: int, *, split: str, seed: int, few_shot: int, resolution: int, supersample: int) -> Rendered:
    """Render head `index` of a split and encode it."""
    mesh = load_head_mesh()
    head = sample_head(mesh, split, index, seed=seed, few_shot=few_shot)
    image, mask = render(mesh, head.who, head.expression, head.view, resolution=resolution, supersample=supersample)
    return encode_image(image), encode_mask(mask, CLASSES.palette), head.attributes()
