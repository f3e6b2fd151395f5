"""Out-of-domain editing: embed with 100 steps, apply a vector, refine with 30 steps, as EditGAN does with MetFaces.

    python benchmarks/domains.py [--outputs outputs] [--heads 24] [--edit smile] [--folder PICTURES]

Domains: samples of the generator (their latents are known, so nothing is embedded), unchanged test heads (the
reference), *painted* (few colours; each pixel takes the most common one around it) and *drawn* (dark outlines on flat
colours), both made with Pillow, and any folder of pictures, e.g. from `dcgan_faces.py`. LPIPS-Alex and L2 compare the
embedding with the picture. smiling is the share that the face-api network calls smiling, before and after the edit.
leak is the squared error to the embedding outside the edited parts. The output picture shows the best, the median and
the worst embedding of each domain.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps
from torch import Tensor

from editgan.assets.load import load_network
from editgan.data.archive import load_images
from editgan.editor.editor import Editor
from editgan.editor.inputs import files_in
from editgan.images import colourize, labelled_grid, mean_squared_error, read_image, save_png, to_float
from editgan.judges.quality import SMILE_THRESHOLD
from editgan.metrics import outside_error

COLOURS = 12  # of a painting or drawing
LINE = 60  # strength of an edge from which on it is drawn, of 255


def painted(picture: Image.Image) -> Image.Image:
    """Strokes: few colours, and of these the commonest around each pixel."""
    few = picture.quantize(2 * COLOURS, method=Image.Quantize.MEDIANCUT)
    strokes = Image.fromarray(np.asarray(few)).filter(ImageFilter.ModeFilter(5))  # of palette indices
    strokes.putpalette(few.getpalette())
    return strokes.convert("RGB")


def drawn(picture: Image.Image) -> Image.Image:
    """Dark outlines on flat colours."""
    flat = picture.filter(ImageFilter.MedianFilter(3)).quantize(COLOURS, method=Image.Quantize.MEDIANCUT).convert("RGB")
    inner = (2, 2, picture.width - 2, picture.height - 2)  # the border itself is no edge
    edges = ImageOps.grayscale(picture).filter(ImageFilter.SMOOTH).filter(ImageFilter.FIND_EDGES).crop(inner)
    lines = ImageOps.expand(edges.point(lambda value: 255 - 220 * (value > LINE)), border=2, fill=255)
    return ImageChops.multiply(flat, lines.convert("RGB"))


def redone(heads: Tensor, change) -> Tensor:
    """uint8 [N, 3, H, W] through Pillow."""
    pictures = [np.asarray(change(Image.fromarray(head.permute(1, 2, 0).numpy()))) for head in heads]
    return torch.as_tensor(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--heads", type=int, default=24)
    parser.add_argument("--edit", default="smile")
    parser.add_argument("--folder", type=Path, help="a further domain: a folder of pictures of the model's size")
    parser.add_argument("--picture", type=Path, default=Path("domains.png"))
    options = parser.parse_args()
    editor = Editor.load(options.outputs)
    if options.edit not in editor.vectors:
        parser.error(f"--edit {options.edit}: there are {', '.join(editor.vectors)}")
    lpips, expression = (
        load_network(name, options.outputs / "assets") for name in ("lpips_alex", "face_api_expression")
    )
    heads = torch.as_tensor(load_images(options.outputs / "data" / "test.zip", range(options.heads)))
    domains = {"test heads": heads, "painted": redone(heads, painted), "drawn": redone(heads, drawn)}
    if options.folder is not None:
        side = editor.G.img_resolution
        domains[options.folder.name] = torch.stack([read_image(path, side) for path in files_in(options.folder)])
    print(f"{options.edit} at {editor.vectors[options.edit].scale:g}\n")
    print("| domain | pictures | L2 | LPIPS-Alex | smiling embedded | vector | +30 | leak x1e3 vector | +30 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")

    @torch.no_grad()
    def smiling(images: Tensor) -> float:
        return (expression.smile(to_float(images)) >= SMILE_THRESHOLD).double().mean().item()

    columns: dict[str, list[Tensor]] = {}
    samples = editor.sample(list(range(options.heads)))
    for name, pictures in {"samples": samples, **domains}.items():
        embedded = samples if name == "samples" else editor.set_image(pictures, steps=100)
        x, y = to_float(pictures), to_float(embedded)
        with torch.no_grad():
            distance = lpips(x, y)  # [N]
        alone, refined = (editor.apply({options.edit: None}, refine=steps) for steps in (0, 30))
        leaks = [
            1000 * outside_error(to_float(edited.images), y, edited.region).mean().item() for edited in (alone, refined)
        ]
        share = [f"{smiling(images):.0%}" for images in (embedded, alone.images, refined.images)]
        print(
            f"| {name} | {len(pictures)} | {mean_squared_error(x, y).mean():.4f} | {distance.mean():.3f} | "
            + " | ".join(share)
            + f" | {leaks[0]:.2f} | {leaks[1]:.2f} |",
            flush=True,
        )
        order = distance.argsort()
        shown = order[[0, len(order) // 2, len(order) - 1]]
        stacks = {"picture": pictures, "embedded": embedded, "its mask": colourize(editor.segment(), editor.palette)}
        stacks |= {"vector": alone.images, "vector + 30": refined.images}
        stacks["mask + 30"] = colourize(refined.masks, editor.palette)
        for caption, stack in stacks.items():
            columns.setdefault(caption, []).append(stack[shown])
    grid = labelled_grid({caption: torch.cat(stacks) for caption, stacks in columns.items()})
    print(f"\n{save_png(options.picture, grid)}: of each domain the best embedded, the middle and the worst")


if __name__ == "__main__":
    main()
