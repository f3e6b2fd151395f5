"""What a session writes as JSON and reads again: its start, its actions, and hashes of the networks."""

import base64
import binascii
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from editgan.config import Section, checked
from editgan.data.archive import encode_image
from editgan.data.photo import Face
from editgan.editor.settings import Settings
from editgan.errors import UserError
from editgan.generator.generator import TRUNCATION_PSI
from editgan.weights import sha256

Strength = Annotated[float, Field(ge=-100, le=100)]
MOST_ACTIONS = 1000
LARGEST_RECORD = 50_000_000  # bytes


class SeedStart(Section):
    kind: Literal["seed"] = "seed"
    seed: int = Field(ge=0, lt=2**32)
    truncation_psi: float = TRUNCATION_PSI


class HeadStart(Section):
    kind: Literal["head"] = "head"
    head: int = Field(ge=0)  # index in data/test.zip


class PhotoFace(Section):
    """Where an aligned picture was cut out of a photo."""

    name: str
    sha256: str
    points: list[tuple[float, float]] = Field(min_length=4, max_length=4)


class PictureStart(Section):
    kind: Literal["picture"] = "picture"
    png: str  # the aligned picture, base64
    photo: PhotoFace | None = None


class EditAction(Section):
    kind: Literal["edit"] = "edit"
    mask: str  # the edited mask: an indexed PNG, base64
    steps: int = Field(ge=0, le=100_000)  # as many as were run


class ApplyAction(Section):
    kind: Literal["apply"] = "apply"
    edits: dict[str, Strength] = Field(min_length=1)
    refine: int = Field(default=0, ge=0, le=100_000)  # as many steps as were run


class KeepAction(Section):
    """The result of the action before becomes a vector; the picture is again as it was before that action."""

    kind: Literal["keep"] = "keep"
    name: str = Field(pattern=r"^\w+$", max_length=40)  # becomes the name of a file


Start = Annotated[SeedStart | HeadStart | PictureStart, Field(discriminator="kind")]
Action = Annotated[EditAction | ApplyAction | KeepAction, Field(discriminator="kind")]


class Record(Section):
    """What was done in a session, as JSON. Pictures and masks are in it; a photo is named only."""

    version: Literal[1] = 1
    generator: str  # a hash of the generator's weights
    segmentation: str | None = None  # a hash of its weights; None: not recorded
    settings: Settings
    vectors: dict[str, str]  # hashes of the vectors that are used in the session and were not kept in it
    start: Start
    latent: str | None = None  # the latent of the start, float32 in base64; None: it is embedded again
    actions: list[Action] = Field(max_length=MOST_ACTIONS)


def picture_start(image: Tensor, photo: Path | None = None, face: Face | None = None) -> PictureStart:
    """The start from an aligned picture uint8 [3, H, W], which was cut out of a photo if `photo` is given."""
    cut = None
    if photo is not None and face is not None:
        cut = PhotoFace(name=photo.name, sha256=sha256(photo), points=face.points.tolist())
    png = encode_image(image.permute(1, 2, 0).contiguous().numpy())
    return PictureStart(png=base64.b64encode(png).decode(), photo=cut)


def kept_in(actions: Sequence[Action]) -> set[str]:
    """Names of the vectors that are made in a session."""
    return {action.name for action in actions if isinstance(action, KeepAction)}


def read_record(path: Path) -> Record:
    """Read the JSON of a session.

    Raises:
        UserError: missing, too large, not JSON, or not the record of a session; the message names the keys.
    """
    try:
        if path.stat().st_size > LARGEST_RECORD:
            raise UserError(f"{path}: is larger than {LARGEST_RECORD // 1_000_000} MB, so it is not a session")
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the session.json of the studio") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not a session of the studio ({error})") from None
    return checked(Record, content, path)


def decoded(text: str, what: str, side: int) -> io.BytesIO:
    """A PNG in base64 as a file; its size is checked before it is decoded.

    Raises:
        UserError: not base64, not a PNG, or of another size.
    """
    try:
        content = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as header:
            size = header.size
    except (binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{what} in the session cannot be read ({error})") from None
    if size != (side, side):
        raise UserError(f"{what} in the session is {size[0]}x{size[1]}, the model needs {side}x{side}")
    return io.BytesIO(content)


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """A hash of names and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def encoded_latent(w_plus: Tensor) -> str:
    """A latent [1, num_ws, w_dim] as base64 of its 32-bit numbers."""
    return base64.b64encode(w_plus.detach().cpu().numpy().astype("<f4").tobytes()).decode()


def decoded_latent(text: str, rows: int, width: int) -> Tensor:
    """The latent [1, rows, width] of `encoded_latent`. Raises UserError: not base64, or of another size."""
    try:
        content = base64.b64decode(text, validate=True)
        return torch.from_numpy(np.frombuffer(content, "<f4").astype(np.float32)).reshape(1, rows, width)
    except (binascii.Error, ValueError, RuntimeError):
        raise UserError(f"the latent in the session is not one of this generator, [{rows}, {width}]") from None
