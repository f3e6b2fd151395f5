"""Image archives: one zip file holds the images, part masks and attributes of a split.

Layout (that of NVIDIA's dataset tool, with masks and attributes added):

    dataset.json         {"labels": null}
    img/00000.png        RGB
    mask/00000.png       indexed PNG, pixel value = class number, palette = that of classes.json
    attributes.json      list of dicts, one per image

The same images always give the same bytes: entries are stored uncompressed, in a fixed order, with a fixed timestamp.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from editgan.errors import UserError

Made = tuple[bytes, bytes, dict]  # picture and mask as PNG (empty: there is none), and what is known of them
ENTRY_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest timestamp a zip file can hold


class ArchiveError(UserError):
    """An archive is missing, damaged, or lacks the requested content."""


@dataclass(frozen=True)
class Classes:
    """Names of the part classes, ordered by class number, and one colour per class: palette is uint8 [K, 3]."""

    names: list[str]
    palette: np.ndarray

    def index(self, name: str) -> int:
        """Class number of `name`. Raises KeyError, which lists the known names."""
        if name not in self.names:
            raise KeyError(f"no part class {name!r}; known: {', '.join(self.names)}")
        return self.names.index(name)


NO_PARTS = Classes(names=["background"], palette=np.zeros((1, 3), np.uint8))


def save_classes(path: Path | str, classes: Classes) -> None:
    """Write classes.json."""
    pairs = zip(classes.names, classes.palette, strict=True)
    rows = [{"name": name, "colour": [int(c) for c in colour]} for name, colour in pairs]
    Path(path).write_text(json.dumps(rows, indent=1) + "\n")


def load_classes(path: Path | str) -> Classes:
    """Read classes.json. Raises ArchiveError if the file is missing or is not a list of names and colours."""
    try:
        return parse_classes(Path(path).read_bytes(), path)
    except FileNotFoundError:
        raise ArchiveError(f"{path} does not exist; `python -m editgan data` makes it") from None


def parse_classes(content: bytes | str, path: Path | str) -> Classes:
    """Parse the content of the classes.json at `path`. Raises ArchiveError if it is not a list of names and colours."""
    try:
        rows = json.loads(content)
        names = [row["name"] for row in rows]
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError("a name is not a string")
        palette = np.array([row["colour"] for row in rows], np.uint8).reshape(len(names), 3)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ArchiveError(f"{path} is not a list of {{name, colour}} entries ({error}); make it again") from error
    return Classes(names=names, palette=palette)


def encode_image(image: np.ndarray, origin: str | None = None) -> bytes:
    """Encode uint8 RGB [H, W, 3] as PNG bytes, with `origin` as a text entry in the metadata."""
    text = PngInfo()
    if origin is not None:
        text.add_text("origin", origin)
    return _png(Image.fromarray(image, "RGB"), pnginfo=text)


def encode_mask(mask: np.ndarray, palette: np.ndarray) -> bytes:
    """Encode class numbers uint8 [H, W] with palette uint8 [K, 3] as the bytes of an indexed PNG.

    255, "no label", is shown in white.
    """
    picture, colours = Image.fromarray(mask, "P"), np.asarray(palette, np.uint8)
    if mask.max() >= len(colours):
        colours = np.concatenate([colours, np.full((256 - len(colours), 3), 255, np.uint8)])
    picture.putpalette(colours.tobytes())
    return _png(picture)


def _png(picture: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6, **options)
    return buffer.getvalue()


def write_archive(
    path: Path | str,
    images: Iterable[bytes] | None = None,
    masks: Iterable[bytes] | None = None,
    attributes: Sequence[dict] | None = None,
) -> None:
    """Write an archive. The file appears at `path` only when it is complete.

    Args:
        images: PNG bytes by index (see `encode_image`), or None for an archive that holds labels only.
        masks: PNG bytes by index (see `encode_mask`), or None.
        attributes: one dict per image, JSON values only, or None.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        if images is not None:
            _add(archive, "dataset.json", json.dumps({"labels": None}).encode())
        for folder, pictures in (("img", images), ("mask", masks)):
            for index, png in enumerate(pictures or ()):
                _add(archive, f"{folder}/{index:05d}.png", png)
        if attributes is not None:
            _add(archive, "attributes.json", json.dumps(list(attributes), sort_keys=True).encode())
    os.replace(partial, path)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, ENTRY_TIME)
    entry.create_system = 3  # otherwise zipfile records the operating system
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def count(path: Path | str) -> int:
    """Number of images in the archive (of masks, if it holds labels only)."""
    with _open(path) as archive:
        return max(len(_members(archive, "img")), len(_members(archive, "mask")))


def holds_masks(path: Path | str) -> bool:
    """Whether the archive holds part masks."""
    with _open(path) as archive:
        return bool(_members(archive, "mask"))


def load_images(path: Path | str, indices: Sequence[int] | None = None) -> np.ndarray:
    """Images as uint8 [N, 3, H, W]: all of them, or those at `indices`, in that order."""
    pictures = _load(path, "img", "RGB", indices)  # [N, H, W, 3]
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def load_masks(path: Path | str, indices: Sequence[int] | None = None) -> np.ndarray:
    """Part masks as uint8 [N, H, W]: all of them, or those at `indices`, in that order."""
    return _load(path, "mask", "P", indices)


def load_attributes(path: Path | str) -> list[dict]:
    """Attributes, one dict per image."""
    with _open(path) as archive:
        try:
            return json.loads(archive.read("attributes.json"))
        except KeyError:
            raise ArchiveError(f"{path} holds no attributes.json; those of train.zip are in train_labels.zip") from None


def _open(path: Path | str) -> zipfile.ZipFile:
    if not Path(path).is_file():
        raise ArchiveError(f"{path} does not exist; `python -m editgan data` renders it")
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ArchiveError(f"{path} is damaged ({error}); delete it and run `python -m editgan data`") from error


def _members(archive: zipfile.ZipFile, folder: str) -> list[str]:
    return sorted(n for n in archive.namelist() if n.startswith(f"{folder}/") and n.endswith(".png"))


def _load(path: Path | str, folder: str, mode: str, indices: Sequence[int] | None) -> np.ndarray:
    with _open(path) as archive:
        names = _members(archive, folder)
        if not names:
            kind = {"img": "images", "mask": "part masks"}[folder]
            raise ArchiveError(f"{path} holds no {kind}: entry {folder}/00000.png is missing")
        wanted = range(len(names)) if indices is None else [int(i) for i in indices]
        if len(wanted) == 0:
            raise ArchiveError(f"{path}: the list of indices is empty")
        pictures = None
        for row, index in enumerate(wanted):
            if not 0 <= index < len(names):
                raise ArchiveError(f"{path} holds {len(names)} entries in {folder}/; index {index} does not exist")
            picture = _decode(archive, names[index], mode, path)
            if pictures is None:  # one array from the start: a list of 20,000 pictures would need twice the memory
                pictures = np.empty((len(wanted), *picture.shape), np.uint8)
            if picture.shape != pictures.shape[1:]:
                raise ArchiveError(f"{path}: {names[index]} is {picture.shape}, the first one {pictures.shape[1:]}")
            pictures[row] = picture
    return pictures


def _decode(archive: zipfile.ZipFile, name: str, mode: str, path: Path | str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(archive.read(name))) as picture:
            if picture.mode != mode:
                raise ArchiveError(f"{path}: {name} has mode {picture.mode}, expected {mode}")
            return np.array(picture)
    except (OSError, zipfile.BadZipFile, SyntaxError) as error:
        raise ArchiveError(f"{path}: {name} is damaged ({error}); delete the archive and make it again") from error
