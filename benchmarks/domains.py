"""Out-of-domain editing: embed with 100 steps, apply a vector, refine with 30 steps, as EditGAN does with MetFaces.

    python benchmarks/domains.py [--heads 24] [--folder PICTURES] [--picture domains.png]

Domains: samples of the generator (with their own latents, not embedded), unchanged test heads (the reference),
*painted* (few colours; each pixel gets the most common one around it) and *drawn* (dark outlines on flat colours), both
made from test heads with Pillow, and any folder of pictures. LPIPS-Alex and L2 compare the embedding with the picture;
face-api detects smiles. The output picture shows the best, the median and the worst embedding of each domain.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measuring import Trained, header, leak, row, trained_command_line
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor

from editgan.editor.inputs import files_in
from editgan.images import colourize, labelled_grid, mean_squared_error, read_image, save_png, to_float

EDIT = "smile_mean"
COLOURS = 12  # number of colours of a painting or drawing
LINE = 60  # of 255: minimum strength of an edge that becomes a line


def painted(picture: Image.Image) -> Image.Image:
    """Few colours; each pixel gets the most common one around it."""
    few = picture.quantize(2 * COLOURS, method=Image.Quantize.MEDIANCUT)
    strokes = Image.fromarray(np.asarray(few)).filter(ImageFilter.ModeFilter(5))  # of palette indices
    strokes.putpalette(few.getpalette())
    return strokes.convert("RGB")


def drawn(picture: Image.Image) -> Image.Image:
    """Dark outlines on flat colours."""
    flat = picture.filter(ImageFilter.MedianFilter(3)).quantize(COLOURS, method=Image.Quantize.MEDIANCUT).convert("RGB")
    inner = (2, 2, picture.width - 2, picture.height - 2)  # without the border, which the filter takes for an edge
    edges = ImageOps.grayscale(picture).filter(ImageFilter.SMOOTH).filter(ImageFilter.FIND_EDGES).crop(inner)
    lines = ImageOps.expand(edges.point(lambda value: 255 - 220 * (value > LINE)), border=2, fill=255)
    return ImageChops.multiply(flat, lines.convert("RGB"))


def converted(heads: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Apply a function of Pillow images to uint8 [N, 3, H, W]."""
    pictures = [np.asarray(change(Image.fromarray(head.permute(1, 2, 0).numpy()))) for head in heads]
    return torch.as_tensor(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--heads", type=int, default=24)
    parser.add_argument("--folder", type=Path, help="folder of pictures of the model's size as another domain")
    parser.add_argument("--picture", type=Path, default=Path("domains.png"))
    options = parser.parse_args()
    run = Trained(options)
    editor, expression = run.editor, run.network("face_api_expression")
    heads = run.images("test", range(options.heads))
    domains = {"samples": editor.sample(list(range(options.heads))), "test heads": heads}
    domains |= {"painted": converted(heads, painted), "drawn": converted(heads, drawn)}
    if options.folder is not None:
        pictures = [read_image(path, editor.G.img_resolution) for path in files_in(options.folder)]
        domains[options.folder.name] = torch.stack(pictures)
    columns: dict[str, list[Tensor]] = {}
    header(
        "domain", "pictures", "L2", "LPIPS-Alex", "smiling embedded", f"{EDIT} vector", "+30", "leak x1e3 vector", "+30"
    )
    for name, pictures in domains.items():
        embedded = pictures if name == "samples" else editor.set_image(pictures, steps=100)
        x, y = to_float(pictures), to_float(embedded)
        distance = run.lpips(pictures, embedded)  # [N]
        alone, refined = (editor.apply({EDIT: None}, refine=steps) for steps in (0, 30))
        smiles = (f"{run.smiling(expression, images):.0%}" for images in (embedded, alone.images, refined.images))
        leaks = (f"{leak(edited.images, embedded, edited.region):.2f}" for edited in (alone, refined))
        row(name, len(pictures), f"{mean_squared_error(x, y).mean():.4f}", f"{distance.mean():.3f}", *smiles, *leaks)
        order = distance.argsort()
        shown = order[[0, len(order) // 2, len(order) - 1]]
        stacks = {"picture": pictures, "embedded": embedded, "its mask": colourize(editor.segment(), editor.palette)}
        stacks |= {"vector": alone.images, "vector + 30": refined.images}
        stacks["mask + 30"] = colourize(refined.masks, editor.palette)
        for caption, stack in stacks.items():
            columns.setdefault(caption, []).append(stack[shown])
    grid = labelled_grid({caption: torch.cat(stacks) for caption, stacks in columns.items()})
    print(f"\n{save_png(options.picture, grid)}: the best, the median and the worst embedding of each domain")


if __name__ == "__main__":
    main()
