"""Images: uint8 <-> [-1, 1], PNG files, grids, palettes. All conversions between network tensors and PNGs are here."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from editgan.errors import UserError

CAPTION_HEIGHT = 16
# Framing of a frontal face in a square image, as fractions of its side, x to the right and y down. The renderer, the
# importer and the identity networks share it.
EYE_DISTANCE = 0.25  # between the centres of the two eyeballs, as in FFHQ
EYE_CENTRE = (0.5, 0.46)  # midpoint between the eyes


def to_float(images: Tensor) -> Tensor:
    """uint8 [N, 3, H, W] in 0..255 -> float32 in [-1, 1]."""
    if images.dtype != torch.uint8:
        raise TypeError(f"to_float expects uint8 images, got {images.dtype}")
    return images.to(torch.float32) / 127.5 - 1


def mean_squared_error(first: Tensor, second: Tensor) -> Tensor:
    """L2 as reported by papers on StyleGAN inversion: mean over channels and pixels, images in [-1, 1].  # [N]"""
    return (first - second).square().mean(dim=(1, 2, 3))


def to_uint8(images: Tensor) -> Tensor:
    """float [N, 3, H, W], clamped to [-1, 1] -> uint8, rounded to nearest."""
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_pil(image: Tensor) -> Image.Image:
    """One uint8 image [3, H, W] -> PIL RGB."""
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))


def read_image(path: str | Path, resolution: int | None = None) -> Tensor:
    """Read a PNG or JPEG as uint8 [3, H, W] RGB; with `resolution`, reject any other size.

    Raises:
        UserError: the file is missing, is not an image, or has the wrong size.
    """
    image = _open(path, "image", "PNG and JPEG are supported")
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)  # [3, H, W]
    if resolution is not None and pixels.shape[1:] != (resolution, resolution):
        height, width = pixels.shape[1:]
        needed = f"the model needs {resolution}x{resolution}; resize or crop it first"
        raise UserError(f"{path}: is {width}x{height}, {needed}")
    return pixels


def read_mask(path: str | Path, *, resolution: int, classes: int, palette: np.ndarray | None = None) -> Tensor:
    """Read a PNG of part labels as uint8 [resolution, resolution].

    In an indexed or grey picture, pixel values are labels. A colour picture is converted with `palette`, uint8
    [K, 3], and must contain no other colours. The same applies to an indexed picture whose colours are numbered
    differently, as painting programs save them.

    Raises:
        UserError: missing, not an image, of another size, or with an unknown label or colour.
    """
    image = _open(path, "mask", "masks are PNG files")
    if image.size != (resolution, resolution):
        raise UserError(f"{path}: is {image.width}x{image.height}, the mask must be {resolution}x{resolution}")
    labels = image.mode == "L" or (image.mode == "P" and _numbered_as(image, palette))
    pixels = np.array(image if labels else image.convert("RGB"))  # [H, W] or [H, W, 3]
    if not labels:
        if palette is None:
            raise UserError(f"{path}: is a colour picture; save the mask with part labels as pixel values")
        matches = (pixels[:, :, None] == palette).all(3)  # [H, W, K]
        if not matches.any(2).all():
            y, x = np.argwhere(~matches.any(2))[0]
            raise UserError(f"{path}: the colour {tuple(map(int, pixels[y, x]))} at ({x}, {y}) belongs to no part")
        pixels = matches.argmax(2)
    if pixels.max() >= classes:
        raise UserError(f"{path}: has the label {pixels.max()}; there are {classes} parts, numbered from 0")
    return torch.from_numpy(pixels.astype(np.uint8))


def _open(path: str | Path, kind: str, remedy: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such {kind}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read as an image ({error}); {remedy}") from error


def _numbered_as(image: Image.Image, palette: np.ndarray | None) -> bool:
    """Whether the pixel values of an indexed picture are labels: it uses our palette, or colour i is grey i."""
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = np.unique(np.array(image))
    if palette is None or used.max() >= len(colours):
        return True
    known = used[used < len(palette)]
    ours = len(known) == len(used) and (colours[known] == palette[known]).all()
    return bool(ours or (colours[used] == used[:, None]).all())


def save_mask(path: str | Path, mask: Tensor, palette: np.ndarray) -> Path:
    """Write labels [H, W] as an indexed PNG: pixel values are labels, coloured by palette uint8 [K, 3]."""
    picture = Image.fromarray(mask.to(torch.uint8).cpu().numpy(), mode="P")
    picture.putpalette(np.asarray(palette, np.uint8).tobytes())
    return save_png(path, picture)


def overlay(images: Tensor, masks: Tensor, palette: Tensor) -> Tensor:
    """Half images, half their part colours: uint8 [N, 3, H, W], labels [N, H, W] -> uint8 [N, 3, H, W]."""
    return images.float().lerp(colourize(masks, palette).float(), 0.5).round().to(torch.uint8)


def save_png(path: str | Path, image: Image.Image) -> Path:
    """Write a PNG without dates or text chunks: equal pixels give equal bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    image.save(part, format="PNG", optimize=False)
    part.replace(path)
    return path


def image_grid(images: Tensor, columns: int, scale: int = 1, gap: int = 0) -> Image.Image:
    """uint8 [N, 3, H, W] -> one picture, row by row, each image enlarged `scale` times (nearest)."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full((3, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8)
    for index, image in enumerate(images.cpu()):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[:, top : top + height, left : left + width] = image
    picture = to_pil(canvas)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def labelled_grid(columns: dict[str, Tensor], scale: int = 2, gap: int = 2) -> Image.Image:
    """One row per example, one captioned column per entry: {"input": uint8 [N, 3, H, W], ...} -> one picture.

    Captions are truncated to the column width; keep them short or raise `scale`.
    """
    names, stacks = list(columns), [columns[name].cpu() for name in columns]
    if len({stack.shape for stack in stacks}) != 1:
        shapes = {name: tuple(stack.shape) for name, stack in columns.items()}
        raise ValueError(f"labelled_grid needs equal shapes in every column, got {shapes}")
    interleaved = torch.stack(stacks, dim=1).flatten(0, 1)  # [N * columns, 3, H, W]
    body = image_grid(interleaved, len(names), scale, gap)
    picture = Image.new("RGB", (body.width, body.height + CAPTION_HEIGHT), "white")
    picture.paste(body, (0, CAPTION_HEIGHT))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=11)
    step = (stacks[0].shape[-1] + gap) * scale
    for index, name in enumerate(names):
        while name and draw.textlength(name, font=font) > step - 4:
            name = name[:-1]
        draw.text((index * step + 2, 1), name, fill="black", font=font)
    return picture


def colourize(masks: Tensor, palette: Tensor) -> Tensor:
    """Labels [N, H, W] and palette uint8 [K, 3] -> uint8 [N, 3, H, W]."""
    return palette[masks.long()].permute(0, 3, 1, 2).contiguous()


def heatmap(values: Tensor, maximum: float | None = None) -> Tensor:
    """Non-negative [N, H, W] -> uint8 [N, 3, H, W]: black, red, yellow, white at `maximum` (default: the largest)."""
    top = float(values.max()) if maximum is None else maximum
    scaled = (values.float() / max(top, 1e-12)).clamp(0, 1) * 3  # [N, H, W]
    channels = [scaled.clamp(0, 1), (scaled - 1).clamp(0, 1), (scaled - 2).clamp(0, 1)]
    return (torch.stack(channels, dim=1) * 255).round().to(torch.uint8)
