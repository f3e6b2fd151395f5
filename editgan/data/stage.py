"""Stage `data`: the pictures of every split, rendered or read from a folder, in the same archive format.

Rendered training pictures are not included: `editgan.data.training` renders them when a stage requests them.
"""

import torch

from editgan.data.archive import holds_masks, load_classes, load_images, load_masks
from editgan.data.params import RENDERED
from editgan.data.pictures import COPIES, REJECTED, read_pictures
from editgan.data.rendering import render_splits
from editgan.images import colourize, image_grid, save_png
from editgan.runtime.stage import StageContext

SAMPLES = 32  # pictures of the pool in samples.png


def run(context: StageContext) -> None:
    """Write all splits to outputs/data."""
    params = context.params.data
    for name in (REJECTED, COPIES):  # left by another source
        (context.out / name).unlink(missing_ok=True)
    make = render_splits if params.source in RENDERED else read_pictures
    blocks = make(context)
    save_samples(context, min(SAMPLES, params.pool))
    context.run.log_image(context.out / "samples.png", "samples")
    for block in blocks:
        block.unlink()


def save_samples(context: StageContext, count: int) -> None:
    """samples.png: pictures of the pool, each next to its mask if it has one."""
    path = context.out / "pool.zip"
    shown = [torch.from_numpy(load_images(path, range(count)))]  # [N, 3, H, W]
    if holds_masks(path):
        palette = torch.from_numpy(load_classes(context.out / "classes.json").palette)
        shown.append(colourize(torch.from_numpy(load_masks(path, range(count))), palette))
    pairs = torch.stack(shown, 1).flatten(0, 1)  # [2 N, 3, H, W]
    scale = max(1, 128 // context.params.resolution)
    save_png(context.out / "samples.png", image_grid(pairs, columns=8, scale=scale))
