"""Images: uint8 <-> [-1, 1], PNG files, grids, palettes. All conversions between network tensors and PNGs are here."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from editgan.decoding import Source, decode_picture
from editgan.errors import Unusable, UserError
from editgan.labels import IGNORE, Mask, decode_mask, scaled_mask

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


def read_image(source: Source, resolution: int | None = None) -> Tensor:
    """Read a picture of any format and mode as uint8 [3, H, W] RGB (`decode_picture`), transparency put on white.

    With `resolution`, any other size is rejected. A warning says what was lost, e.g. all frames but the first.

    Raises:
        UserError: the file is missing, is not an image, or has the wrong size.
    """
    with naming(source, "image"):
        picture = decode_picture(source, side=resolution)
    for note in picture.notes:
        warnings.warn(f"{name_of(source)}: {note}", stacklevel=2)
    return torch.from_numpy(np.ascontiguousarray(picture.seen().transpose(2, 0, 1)))


def read_mask(source: Source, *, resolution: int, classes: int, palette: np.ndarray | None = None) -> Tensor:
    """Read part labels as uint8 [resolution, resolution], by pixel values or by colours (`decode_mask`).

    A mask of another size is scaled, each pixel from the nearest one. A warning says so.

    Raises:
        UserError: missing, not an image, not square, or with an unknown label or colour.
    """
    mask = square_mask(source, resolution, classes, palette)
    for note in mask.notes:
        warnings.warn(f"{name_of(source)}: {note}", stacklevel=2)
    return torch.from_numpy(mask.labels)


def square_mask(source: Source, resolution: int, classes: int, palette: np.ndarray | None) -> Mask:
    """Part labels uint8 [resolution, resolution], with remarks instead of the warnings of `read_mask`."""
    with naming(source, "mask"):
        return scaled_mask(decode_mask(source, classes, palette), resolution, resolution)


@contextlib.contextmanager
def naming(source: Source, kind: str) -> Iterator[None]:
    """Turn the faults of a file into a UserError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{source}: no such {kind}") from error
    except Unusable as reason:
        raise UserError(f"{name_of(source)}: {reason}") from reason


def name_of(source: Source) -> str:
    """The path of a file; `the picture` for the content of one."""
    return str(source) if isinstance(source, str | Path) else "the picture"


def save_mask(path: str | Path, mask: Tensor, palette: np.ndarray) -> Path:
    """Write labels [H, W] as an indexed PNG (`mask_to_pil`)."""
    return save_png(path, mask_to_pil(mask, palette))


def mask_to_pil(mask: Tensor, palette: np.ndarray) -> Image.Image:
    """Labels [H, W] as an indexed picture: pixel values are labels, coloured by palette uint8 [K, 3]."""
    picture = Image.fromarray(mask.to(torch.uint8).cpu().numpy(), mode="P")
    picture.putpalette(np.asarray(palette, np.uint8).tobytes())
    return picture


def overlay(images: Tensor, masks: Tensor, palette: Tensor) -> Tensor:
    """Half images, half their part colours: uint8 [N, 3, H, W], labels [N, H, W] -> uint8 [N, 3, H, W]."""
    return images.float().lerp(colourize(masks, palette).float(), 0.5).round().to(torch.uint8)


def save_png(path: str | Path, image: Image.Image) -> Path:
    """Write a PNG without dates or text chunks: equal pixels give equal bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(png_bytes(image))
    part.replace(path)
    return path


def png_bytes(image: Image.Image) -> bytes:
    """The content of a PNG without dates or text chunks."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


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
    """Labels [N, H, W] and palette uint8 [K, 3] -> uint8 [N, 3, H, W]; IGNORE is white."""
    palette = torch.cat([palette, palette.new_full((IGNORE + 1 - len(palette), 3), 255)])
    return palette[masks.long()].permute(0, 3, 1, 2).contiguous()


def heatmap(values: Tensor, maximum: float | None = None) -> Tensor:
    """Non-negative [N, H, W] -> uint8 [N, 3, H, W]: black, red, yellow, white at `maximum` (default: the largest)."""
    top = float(values.max()) if maximum is None else maximum
    scaled = (values.float() / max(top, 1e-12)).clamp(0, 1) * 3  # [N, H, W]
    channels = [scaled.clamp(0, 1), (scaled - 1).clamp(0, 1), (scaled - 2).clamp(0, 1)]
    return (torch.stack(channels, dim=1) * 255).round().to(torch.uint8)
