"""Decode the pictures of any program. Every stage, command and server reads them here. Does not import torch.

Files are not trusted: any fault of a file is an `Unusable`, and its size in pixels is checked before it is decoded.
"""

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from editgan.errors import Unusable

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")  # decoded in this process; others call external programs
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp")
MAX_PIXELS = 64_000_000  # limit for one picture: 192 MB as bytes
SAME_PROFILE = 3  # a colour profile that changes no colour by more than this (of 255) is sRGB, rounded otherwise
OTHER_KINDS = (  # place and content of the first bytes
    *((4, b"ftyp" + brand, "HEIC (a photo of a phone)") for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")),
    (4, b"ftypavif", "AVIF"), (4, b"ftyp", "a video"), (0, b"8BPS", "a file of Photoshop"), (0, b"%PDF", "a PDF"),
    (0, b"gimp xcf", "a file of GIMP"), (0, b"<svg", "SVG"), (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"), (0, b"version https://git-lfs", "a pointer of Git LFS (run `git lfs pull`)"),
    (0, b"PK\3\4", "an archive"),
)  # fmt: skip
NOTES = "notes"  # key of a picture's info
Source = str | Path | BinaryIO


@dataclass(frozen=True)
class Picture:
    """An upright picture in sRGB, uint8 [H, W, 3], its transparency, uint8 [H, W], and remarks on how it was read."""

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def seen(self) -> np.ndarray:
        """The picture on white, so colours hidden under transparent pixels are ignored.  # uint8 [H, W, 3]"""
        if self.alpha is None:
            return self.pixels
        share = self.alpha[:, :, None].astype(np.float32) / 255
        return np.round(255 + share * (self.pixels.astype(np.float32) - 255)).astype(np.uint8)


def decode_picture(source: Source, *, side: int | None = None) -> Picture:
    """Decode a picture of any mode in 8 bits: upright, of an animation the first frame, its profile applied.

    Args:
        side: the only accepted width and height, checked before decoding; None: any size
    Raises:
        Unusable: not a picture, damaged, too large, of another size, or with pixels of more than 16 bits.
        FileNotFoundError: no such file.
    """
    whole = open_picture(source, side=side)
    with decoding("a picture"):
        picture, alpha = _in_8_bits(whole)
        picture, note = _in_srgb(picture)
    alpha = None if alpha is None else np.array(alpha)
    if alpha is not None and not alpha.any():
        raise Unusable("is completely transparent")
    return Picture(np.array(picture), alpha, (*whole.info[NOTES], *note))


def open_picture(source: Source, formats: Sequence[str] = FORMATS, *, side: int | None = None) -> Image.Image:
    """Decode a picture in its own mode, upright. The size is checked before decoding; info[NOTES] has remarks.

    Raises:
        Unusable, FileNotFoundError: as `decode_picture`.
    """
    notes = []
    named = " or ".join(filter(None, [", ".join(formats[:-1]), formats[-1]]))
    with (
        decoding(named, source),
        warnings.catch_warnings(action="ignore"),
    ):
        with Image.open(source, formats=formats) as file:
            size, kind = f"{file.width}x{file.height}", file.format
            if file.width * file.height > MAX_PIXELS:
                raise Unusable(f"is {size}; the limit is {MAX_PIXELS // 1_000_000} million pixels")
            if side is not None and file.size != (side, side):
                raise Unusable(f"is {size}, the model needs {side}x{side}; resize or crop it first")
            raw = str(file.tile[0][3]) if file.tile else ""
            depth = next((bits for bits in (2, 4, 16) if f"L;{bits}" in raw or f"I;{bits}" in raw), 8)
            file.load()
            try:
                picture = ImageOps.exif_transpose(file)
            except Exception:  # damaged EXIF data may raise any exception
                picture = file.copy()
                notes.append("its EXIF data are damaged and were ignored; it may lie on its side")
            picture.format = kind
            picture.info["bits"] = file.tag_v2.get(258, (8,))[0] if kind == "TIFF" else depth
            picture.info["white_is_zero"] = kind == "TIFF" and file.tag_v2.get(262) == 0
            frames = 1
            with contextlib.suppress(Exception):  # only frames that are not used are damaged
                frames = getattr(file, "n_frames", 1) if kind != "MPO" else 1  # which holds previews
            if frames > 1:
                notes.append(f"has {frames} frames; the first one is used")
            picture.info[NOTES] = notes
    return picture


def other_kind(source: Source | None) -> str:
    """What a file of no known format is, by its first bytes, and the remedy; empty if that is unknown."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(Path(source).open("rb")) if isinstance(source, str | Path) else source
        if file is None:
            return ""
        file.seek(0)
        start = file.read(64)
    if not start:
        return ", but empty"
    kind = next((kind for place, magic, kind in OTHER_KINDS if start[place:].startswith(magic)), None)
    return f", but {kind}, whatever its name says; save it as PNG or JPEG" if kind else ""


@contextlib.contextmanager
def decoding(what: str, source: Source | None = None):
    """Turn every fault of a file into an `Unusable`."""
    try:
        yield
    except (Unusable, FileNotFoundError):
        raise
    except Image.DecompressionBombError:
        raise Unusable(f"is too large; the limit is {MAX_PIXELS // 1_000_000} million pixels") from None
    except Exception as error:  # decoding a damaged file may raise any exception
        if "MAX_TEXT" in str(error):
            raise Unusable("holds more than 1 MiB of text (metadata); save it without metadata") from None
        unknown = isinstance(error, UnidentifiedImageError)  # whose message only names the file
        said = f"not {what}{other_kind(source)}" if unknown else " ".join(str(error).split()) or type(error).__name__
        raise Unusable(f"cannot be read as an image (it cannot be decoded: {said})") from None


def _in_8_bits(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours in mode L, RGB or CMYK, and the transparency in mode L, if the picture has any."""
    info, mode = picture.info, picture.mode
    profile = {"icc_profile": info["icc_profile"]} if info.get("icc_profile") else {}
    alpha = None
    if mode == "F" or (mode == "I" and picture.format != "PNG"):
        kind = "floating-point numbers" if mode == "F" else "32-bit numbers"
        raise Unusable(f"its pixels are {kind}; save it with 8 or 16 bits per channel")
    if mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        values = np.asarray(picture).astype(np.int64)
        if "transparency" in info:
            alpha = Image.fromarray(np.where(values == info["transparency"], 0, 255).astype(np.uint8))
        scaled = values.clip(0, 65535) * 255 / (2 ** info["bits"] - 1)
        scaled = 255 - scaled if info["white_is_zero"] else scaled  # which Pillow inverts in 8 bits only
        converted = Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))
    elif mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted, profile = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB"), {}
    elif picture.has_transparency_data:
        whole = (picture.convert("LA") if mode == "La" else picture).convert("RGBA")
        converted, alpha = whole.convert("RGB"), whole.getchannel("A")
    elif mode in ("L", "RGB", "CMYK"):
        converted = picture.copy()
    else:
        converted = picture.convert("L" if mode == "1" else "RGB")
    converted.info = profile
    return converted, alpha


def _in_srgb(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    """Apply a colour profile to a picture of mode L, RGB or CMYK: RGB in sRGB, and a remark.

    A profile that is damaged, or made for another kind of picture, is ignored.
    """
    plain, content = picture.convert("RGB"), picture.info.get("icc_profile")
    if not content:
        return plain, []
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        name = " ".join(ImageCms.getProfileDescription(profile).split())
        space = profile.profile.xcolor_space.strip()
        if picture.mode == "L" and space == "RGB":
            picture = plain
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), picture.mode, "RGB")
        if picture.mode != "CMYK" and _changes_little(transform, picture.mode):
            return plain, []
        return ImageCms.applyTransform(picture, transform), [f"its colours were converted from {name!r} to sRGB"]
    except Exception:  # a damaged profile may raise any exception
        return plain, ["its colour profile is damaged or of another kind of picture, and was ignored"]


def _changes_little(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether it changes no grey, or no colour of a cube, by more than SAME_PROFILE."""
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    probe = steps[None] if mode == "L" else np.stack(np.meshgrid(steps, steps, steps), -1).reshape(16, 256, 3)
    shown = np.array(ImageCms.applyTransform(Image.fromarray(probe), transform)).astype(int)  # [.., .., 3]
    return np.abs(shown - probe.reshape(*shown.shape[:2], -1)).max() <= SAME_PROFILE
