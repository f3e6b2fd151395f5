"""The pictures of the page, as data URIs."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from editgan.editing.vectors import EditingVector, apply_vector
from editgan.errors import UserError
from editgan.generator.generator import Generator
from editgan.images import image_grid, to_uint8

WIDTH = 128  # pixels of the page that a picture should have at least


def data_uri(png: bytes) -> str:
    """A PNG as an address that contains it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def encoded(picture: Image.Image) -> str:
    """A picture as a data URI; equal pixels give equal text."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return data_uri(buffer.getvalue())


def enlarged(side: int) -> int:
    """Side at which the page shows a picture: a whole multiple, so that pixels stay crisp."""
    return side * max(1, round(WIDTH / side))


def column(path: Path, heads: int) -> tuple[str, int, int]:
    """The first heads of a columns/METHOD.png of stage `benchmark`: data URI, width, number of heads.

    Raises UserError: the file is missing.
    """
    try:
        with Image.open(path) as picture:
            side, shown = picture.width, min(heads, picture.height // picture.width)
            return encoded(picture.crop((0, 0, side, shown * side)).convert("RGB")), side, shown
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run stage benchmark again") from None


@torch.no_grad()
def vector_row(G: Generator, w_plus: Tensor, vector: EditingVector, strengths: Sequence[float]) -> str:
    """One head, w_plus [1, num_ws, w_dim], edited at several strengths, side by side."""
    latents = torch.cat([apply_vector(w_plus, vector, strength) for strength in strengths])  # [S, num_ws, w_dim]
    pictures = to_uint8(G.synthesis(latents, noise_mode="const"))  # [S, 3, H, W]
    return encoded(image_grid(pictures, columns=len(strengths)))
