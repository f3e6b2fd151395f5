"""Share of renderings in which an ImageNet network sees an object of their class, and the time of a rendering.

    python benchmarks/renderings.py [--source cars] [--pictures 400] [--grid cars.png]

EfficientNet-Lite0 gets pictures of the params' resolution, upsampled to 224 px. A picture counts if one of its five
most probable classes (top 5), or the most probable one (top 1), is an ImageNet class of this kind. The reference is the
same share for rendered heads: how often the network gives such an answer to other pictures of this size.
"""

import functools
import io
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch
from measuring import command_line, header, row
from PIL import Image
from torch import Tensor, nn

from editgan.assets.load import for_inference, load_network
from editgan.config import load_params
from editgan.data.renderers import RENDERERS
from editgan.data.rendering import prepare, render_one
from editgan.images import colourize, image_grid, save_png, to_float
from editgan.runtime.environment import PROJECT_ROOT

BATCH = 50
GRID = 32  # pictures in the grid
TIMED = 40  # pictures
KINDS = {  # source -> numbers of ImageNet-1k classes, from 0
    "cars": {
        "beach wagon": 436, "cab": 468, "car wheel": 479, "convertible": 511, "grille": 581, "jeep": 609,
        "limousine": 627, "minibus": 654, "minivan": 656, "Model T": 661, "moving van": 675, "pickup": 717,
        "police van": 734, "racer": 751, "sports car": 817,
    },
    "cats": {
        "tabby": 281, "tiger cat": 282, "Persian cat": 283, "Siamese cat": 284, "Egyptian cat": 285, "lynx": 287,
    },
    "birds": {f"bird {number}": number for number in (*range(7, 25), *range(80, 101), *range(127, 147))},
}  # fmt: skip


def rendered(source: str, count: int) -> tuple[float, Tensor, Tensor]:
    """Milliseconds of processor time per picture; pictures uint8 [N, 3, H, W] and masks uint8 [N, H, W] of train."""
    params = load_params(PROJECT_ROOT / "params.yaml")
    task = functools.partial(
        render_one, source=source, split="train", seed=params.seed, few_shot=1, resolution=params.resolution
    )
    RENDERERS[source].prepare()
    task(0)
    start = time.process_time()
    for index in range(TIMED):
        task(index)
    milliseconds = 1000 * (time.process_time() - start) / TIMED
    start_worker = functools.partial(prepare, source)
    with multiprocessing.get_context("forkserver").Pool(len(os.sched_getaffinity(0)), start_worker) as pool:
        made = list(pool.imap(task, range(count), chunksize=8))
    images = torch.from_numpy(np.stack([decoded(image) for image, _, _ in made])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([decoded(mask) for _, mask, _ in made]))
    return milliseconds, images, masks


def decoded(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image)


@torch.no_grad()
def answers(network: nn.Module, images: Tensor) -> Tensor:
    """The five most probable ImageNet classes of pictures uint8 [N, 3, H, W].  # [N, 5]"""
    return torch.cat([network.logits(to_float(part)).topk(5).indices for part in images.split(BATCH)])


def seen(found: Tensor, kinds: Tensor) -> tuple[str, str]:
    """Percent of pictures with one of these classes among five answers [N, 5], and as the first one."""
    right = torch.isin(found, kinds)  # [N, 5]
    return f"{100 * right.any(1).double().mean():.1f}", f"{100 * right[:, 0].double().mean():.1f}"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--source", choices=sorted(KINDS), action="append", help="default: all")
    parser.add_argument("--pictures", type=int, default=400, help="number of pictures of each class")
    parser.add_argument("--assets", type=Path, default=Path("outputs/assets"), help="folder of the converted networks")
    parser.add_argument("--grid", type=Path, help="write pictures and masks of the last class to this PNG file")
    options = parser.parse_args()
    network = for_inference(load_network("efflite0", options.assets))
    _, heads, _ = rendered("heads", options.pictures)
    of_heads = answers(network, heads)
    header("class", "ms per picture", "top 5, %", "top 1, %", "heads: top 5, %", "heads: top 1, %")
    for source in options.source or sorted(KINDS):
        milliseconds, images, masks = rendered(source, options.pictures)
        kinds = torch.tensor(list(KINDS[source].values()))
        row(source, f"{milliseconds:.0f}", *seen(answers(network, images), kinds), *seen(of_heads, kinds))
        if options.grid:
            palette = torch.from_numpy(RENDERERS[source].classes.palette)
            pairs = torch.stack([images[:GRID], colourize(masks[:GRID], palette)], 1).flatten(0, 1)
            save_png(options.grid, image_grid(pairs, columns=8, scale=2))


if __name__ == "__main__":
    main()
