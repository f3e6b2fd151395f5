"""Pictures of the page: what was painted, overlays, outlines, and pictures inside HTML."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editgan.data.paste import dilate
from editgan.images import colourize, to_pil

CANVAS = 512  # shortest side of the painting area in pixels
OUTLINE = torch.tensor([255, 0, 200], dtype=torch.uint8)  # magenta: no part has this colour


def enlargement(side: int) -> int:
    """How many pixels of the painting area a pixel of the model is wide."""
    return max(1, -(-CANVAS // side))


def enlarged(image: Tensor, smooth: bool = True) -> Image.Image:
    """uint8 [3, H, W] at the size of the painting area."""
    picture = to_pil(image)
    side = picture.width * enlargement(picture.width)
    return picture.resize((side, side), Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST)


def background(image: Tensor, mask: Tensor, palette: Tensor, opacity: float) -> Image.Image:
    """The picture with its mask over it, to paint on; opacity 0 hides the mask."""
    colours = enlarged(colourize(mask[None], palette)[0], smooth=False)
    return Image.blend(enlarged(image), colours, opacity)


def painted_mask(layers: Sequence[Image.Image], mask: Tensor, palette: Tensor) -> Tensor:
    """The mask with what was painted over it.

    A pixel of the mask takes the part that covers most of it if at least half of it is painted. Colours are taken for
    the part with the nearest colour, because a browser may blend the edges of a stroke.

    Args:
        layers: RGBA, a multiple of the mask's size; later layers cover earlier ones
        mask: predicted part labels  # uint8 [H, W]
        palette: uint8 [K, 3]
    Returns:
        uint8 [H, W]
    """
    found, side = mask.numpy().copy(), mask.shape[-1]
    for layer in layers:
        size = side * enlargement(side)
        pixels = layer.convert("RGBA")
        if pixels.size != (size, size):
            pixels = pixels.resize((size, size), Image.Resampling.NEAREST)
        pixels = np.asarray(pixels).astype(np.int64)  # [size, size, 4]
        drawn = pixels[..., 3] >= 128
        codes, index = np.unique(pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2], return_inverse=True)
        colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)  # [C, 3]
        nearest = ((colours[:, None] - palette.numpy().astype(np.int64)) ** 2).sum(2).argmin(1)  # [C]
        labels = np.where(drawn, nearest[index.reshape(drawn.shape)], len(palette))  # [size, size]
        cells = labels.reshape(side, size // side, side, size // side).transpose(0, 2, 1, 3).reshape(side, side, -1)
        counts = (cells[..., None] == np.arange(len(palette))).sum(2)  # [H, W, K]
        covered = 2 * counts.sum(2) >= cells.shape[2]
        found = np.where(covered, counts.argmax(2), found)
    return torch.from_numpy(found.astype(np.uint8))


def layer_of(wanted: Tensor, mask: Tensor, palette: Tensor) -> Image.Image:
    """The layer that was painted to get from `mask` to `wanted`, uint8 [H, W] each; transparent where they agree."""
    colours = colourize(wanted[None], palette)[0]  # [3, H, W]
    alpha = (wanted != mask).to(torch.uint8)[None] * 255
    picture = Image.fromarray(torch.cat([colours, alpha]).permute(1, 2, 0).contiguous().numpy(), "RGBA")
    side = picture.width * enlargement(picture.width)
    return picture.resize((side, side), Image.Resampling.NEAREST)


def outlined(picture: Image.Image, region: Tensor) -> Image.Image:
    """The picture with a line around a region, bool [H, W]; the picture is a multiple of its size."""
    factor = picture.width // region.shape[-1]
    wide = region.repeat_interleave(factor, 0).repeat_interleave(factor, 1)[None]
    line = (dilate(wide, max(1, picture.width // 200)) & ~wide)[0]
    pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    pixels[line] = OUTLINE
    return Image.fromarray(pixels.numpy())


def figures(*shown: tuple[str, Image.Image]) -> str:
    """Pictures with captions as HTML. The pictures are in it, so that no file has to be written or fetched."""
    parts = []
    for caption, picture in shown:
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", compress_level=1)
        source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        parts.append(
            f'<figure><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        )
    return f'<div class="figures">{"".join(parts)}</div>'
