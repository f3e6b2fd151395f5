"""Import uncropped photos for source `folder`: find faces, align them with the framing of the heads, write the tables.

INTO/images/COLLECTION/....png  aligned pictures          INTO/masks/COLLECTION/....png  their part masks, if any
INTO/classes.json               the classes of the masks  INTO/attributes.csv            one row per picture
INTO/rejected_COLLECTION.csv    rejected files with reasons
INTO/replaced/...               masks, pictures and tables that a person changed, before a second import replaced them

COLLECTION is `pictures/NAME` for a folder or archive NAME of arbitrary photos, so several of them can be imported into
one folder. Several collections can share a folder if their masks have the same classes. An interrupted import resumes:
each picture stores in its metadata what it was made from. The tables are written at the end.
"""

import csv
import hashlib
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editgan.assets.alignment import HEADS, align
from editgan.assets.networks.blazeface import BlazeFace
from editgan.data.archive import Classes, encode_image, encode_mask, load_classes, save_classes
from editgan.data.collections import fasseg, lfw, london, pictures
from editgan.data.collections.files import Files, Found, content_of, opened
from editgan.data.photo import Face, Photo, crop_face, decode_photo, find_faces
from editgan.data.sources.listing import Rejected, Unusable, rejected_csv, repeated
from editgan.data.tables import file_name, read_table
from editgan.errors import UserError
from editgan.images import to_float
from editgan.labels import IGNORE
from editgan.weights import write_bytes

COLLECTIONS = {
    "lfw": lfw.list_photos,
    "london": london.list_photos,
    "fasseg": fasseg.list_photos,
    "pictures": pictures.list_photos,
}
REPLACED = "replaced"  # folder below INTO
SMALLEST = 0.5  # minimum side of the face's square in the photo, relative to the side of the output picture
OUTSIDE = 0.5  # maximum share of that square beyond the border of the photo; edge pixels are repeated there
COLOURS_OF_MASKS = 24  # a picture with so few colours is a mask, not a photo
LIKE_A_MASK = "looks like a mask: it has few colours"
NOSE_SHIFT = 0.75  # nose tip from the middle of the eyes, in eye distances, over tan(yaw): on rendered heads


class Imported(NamedTuple):
    """Number of pictures imported from this collection, how many of them have a mask, rejected files, and notes."""

    pictures: int
    masks: int
    rejected: list[Rejected]
    notes: Sequence[str]


def import_photos(
    collection: str,
    path: Path,
    into: Path,
    detector: BlazeFace,
    *,
    side: int,
    labels: Path | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Import a collection. Every rejected photo is listed with its reason.

    Args:
        collection: a key of COLLECTIONS
        path: the collection as distributed: an archive or a folder
        into: the folder to create or extend
        side: side of the output pictures in pixels
        labels: a table of labels, for collections without labels
        report: called with (photos done, total photos)
    Raises:
        UserError: missing archive, invalid table, no usable photo, or classes that differ from those of `into`.
    """
    place = f"pictures/{path.resolve().stem or 'root'}" if collection == "pictures" else collection
    kept = other_rows(into / "attributes.csv", f"{place}/")
    with opened(path) as files:
        found, rejected, classes, notes = COLLECTIONS[collection](files, labels)
        rejected = [*files.rejected, *rejected]
        agree_on_classes(into, classes)
        rows, masks, names, folders, aside, remarks = {}, 0, set(), set(), [], []
        for done, photo in enumerate(found, 1):
            name = f"{place}/{as_png(photo.file)}"
            above = {parent.as_posix() for parent in PurePosixPath(name).parents}
            try:
                if name in names:
                    raise Unusable("another photo has the same name with another extension")
                if name in folders or above & names:
                    raise Unusable("its output would have the name of an existing folder")
                names.add(name)
                folders |= above
                picture, masked = make_one(files, photo, classes, into, name, detector, side, aside)
                rows[name] = {"yaw": yaw_of(detector, picture)} | photo.attributes | {"person": photo.person}
                masks += masked
                remarks += [(photo.file, remark) for remark in photo.remarks]
            except Unusable as reason:
                rejected.append(Rejected(photo.file, str(reason)))
            report(done, len(found))
    rejected, listed = sorted(set(rejected)), into / f"rejected_{place.replace('/', '_')}.csv"
    write_bytes(listed, rejected_csv(rejected))
    if not rows:
        first = f", e.g. {rejected[0].file}: {rejected[0].reason}" if rejected else ""
        lists = f"{listed} lists {len(rejected)} files with reasons{first}"
        raise UserError(f"{path}: no usable photo for collection {collection!r}; {lists}")
    for row in rows.values():  # the neutral counterpart of a smiling photo: the picture made from it, if there is one
        neutral = f"{place}/{as_png(row.pop('neutral', ''))}"
        if neutral in rows:
            row["neutral"] = neutral
    write_rows(into / "attributes.csv", kept | rows, into, aside)
    if len(classes.names) > 1:
        save_classes(into / "classes.json", classes)
    masked = sorted({file.rpartition("/")[0] or "." for file, reason in rejected if reason == LIKE_A_MASK})
    masked = [f"{folder}/ has pictures that look like masks, which are not used" for folder in masked]
    notes = [*notes, *repeated(remarks), *masked]
    if aside:
        shown = ", ".join(aside[:3]) + (f" and {len(aside) - 3} more" if len(aside) > 3 else "")
        notes.append(f"files that differ from the import were replaced; they are kept in {into / REPLACED}: {shown}")
    return Imported(len(rows), masks, rejected, notes)


def as_png(file: str) -> str:
    return PurePosixPath(file).with_suffix(".png").as_posix() if file else ""


def agree_on_classes(into: Path, classes: Classes) -> None:
    """Raises UserError if the folder has masks with other classes."""
    path = into / "classes.json"
    known = load_classes(path).names if len(classes.names) > 1 and path.exists() else classes.names
    if known != classes.names:
        fault = f"has the classes {', '.join(known)}, but the collection has {', '.join(classes.names)}"
        raise UserError(f"{path}: {fault}; import it into a separate folder")


def make_one(
    files: Files,
    photo: Found,
    classes: Classes,
    into: Path,
    name: str,
    detector: BlazeFace,
    side: int,
    aside: list[str],
) -> tuple[Tensor, bool]:
    """Write the picture and mask of a photo unless they exist; returns uint8 [3, H, W] and whether it has a mask.

    Files of a person that are in the way are moved to REPLACED, and listed in `aside`.

    Raises:
        Unusable: the photo is rejected; the message is the reason.
    """
    target, mask = into / "images" / name, into / "masks" / name
    try:
        content = files.read(photo.file)
        labels = photo.labels() if photo.labels is not None else None
    except Unusable:
        raise
    except Exception as error:  # reading a damaged archive may raise any exception
        raise Unusable(f"cannot be read ({error})") from None
    origin = hashlib.sha256(content)
    origin.update(b"" if labels is None else labels.tobytes())
    picture = made_before(target, side, origin.hexdigest())
    if picture is not None:
        return picture, labels is not None
    whole = decode_photo(io.BytesIO(content))
    photo.remarks.extend(whole.notes)
    if labels is None and looks_like_mask(whole.pixels):
        raise Unusable(LIKE_A_MASK)
    face = central_face(detector, whole, side)
    if labels is None:
        put_aside(mask, b"", into, aside)  # painted by a person, or left by an earlier import
    elif labels.shape != tuple(whole.pixels.shape[1:]):
        raise Unusable(f"its mask is {labels.shape[1]}x{labels.shape[0]}, which is not the photo's size")
    else:
        content = encode_mask(crop_labels(labels, face, side, len(classes.names)), classes.palette)
        put_aside(mask, content, into, aside)
        write_bytes(mask, content)
    pixels = crop_face(whole, face, side).permute(1, 2, 0).contiguous()  # [side, side, 3]
    if not has_origin(target):
        put_aside(target, b"", into, aside)
    write_bytes(target, encode_image(pixels.numpy(), origin.hexdigest()))
    return pixels.permute(2, 0, 1), labels is not None


def made_before(path: Path, side: int, origin: str) -> Tensor | None:
    """The picture if an earlier import wrote it from the same photo."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
            return pixels if (picture.width, picture.text.get("origin")) == (side, origin) else None
    except Exception:  # decoding a damaged file may raise any exception
        return None


def has_origin(path: Path) -> bool:
    """Whether an import wrote this picture, and no other program has saved it since."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return "origin" in picture.text
    except Exception:  # decoding a damaged file may raise any exception
        return False


def put_aside(path: Path, content: bytes, into: Path, aside: list[str]) -> None:
    """Move a file with another content than this to REPLACED, under a name that is free, and list its path."""
    if not path.is_file() or path.read_bytes() == content:
        return
    place = path.relative_to(into)
    target, number = into / REPLACED / place, 1
    while target.exists():
        number += 1
        target = (into / REPLACED / place).with_stem(f"{place.stem}-{number}")
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    aside.append(target.relative_to(into / REPLACED).as_posix())


def central_face(detector: BlazeFace, photo: Photo, side: int) -> Face:
    """The face nearest to the centre of a photo: the person that its labels describe.

    Raises:
        Unusable: no face was found, it is too small, or too much of it lies beyond the border.
    """
    faces = find_faces(detector, photo)
    if not faces:
        raise Unusable("no face was found")
    height, width = photo.pixels.shape[1:]
    middle = torch.tensor([width / 2, height / 2])
    face = min(faces, key=lambda one: float((one.points[:3].mean(0) - middle).norm()))
    if face.side < SMALLEST * side:
        raise Unusable(f"the face's square is {face.side:.0f} px wide, minimum {SMALLEST * side:.0f}")
    axis = (torch.arange(64) + 0.5) / 64
    places = torch.cartesian_prod(axis, axis) @ face.matrix[:, :2].T + face.matrix[:, 2]
    beyond = ((places < 0) | (places > torch.tensor([width, height]))).any(1).double().mean()
    if beyond > OUTSIDE:
        raise Unusable(f"{beyond:.0%} of the face's square is beyond the border of the photo")
    return face


def yaw_of(detector: BlazeFace, picture: Tensor) -> float:
    """Approximate yaw of an aligned picture in radians; the error on rendered heads is about 2 degrees."""
    _, points = detector.detect(to_float(picture[None]))
    first, second, nose = points[0, :3]
    across = second - first
    shift = float((nose - (first + second) / 2) @ across / across.square().sum().clamp(min=1e-6))
    return round(math.atan(shift / NOSE_SHIFT), 4)


def crop_labels(labels: np.ndarray, face: Face, side: int, classes: int) -> np.ndarray:
    """Mask of the crop: each pixel gets the class, or IGNORE, that covers most of it.  # uint8 [side, side]"""
    best = torch.zeros(side, side, dtype=torch.uint8)
    most = torch.zeros(side, side)
    for label in (*range(classes), IGNORE):
        layer = torch.from_numpy((labels == label).astype(np.float32))[None, None]
        share = align(layer, HEADS, side, face.points[None])[0, 0]
        best[share > most + 1e-5] = label
        most = torch.maximum(most, share)
    return best.numpy()


def looks_like_mask(pixels: Tensor) -> bool:
    """Whether a picture is painted with few colours: apart from the most common one, 24 make up nine tenths of it.

    Args:
        pixels: uint8 [3, H, W]
    """
    step = max(1, max(pixels.shape[1:]) // 256)
    red, green, blue = pixels[:, ::step, ::step].to(torch.int64)
    counts = (red << 16 | green << 8 | blue).flatten().unique(return_counts=True)[1].sort(descending=True)[0]
    rest = counts[1:].sum()
    return bool(rest > 0.01 * counts.sum() and counts[1 : COLOURS_OF_MASKS + 1].sum() >= 0.9 * rest)


def other_rows(path: Path, replace: str) -> dict[str, dict[str, str]]:
    """Rows of a table of attributes by file, without those whose file begins with `replace`.

    Raises:
        UserError: it is not a table that can be written again without loss.
    """
    kept: dict[str, dict[str, str]] = {}
    if path.exists():
        for place, row in read_table(content_of(path), path, ["file"]).rows:
            file = file_name(row.pop("file"))
            if not file or file in kept or "" in row:
                fault = "has more cells than the header" if "" in row else f"is a second one for {file or 'no file'}"
                raise UserError(f"{path}: row {place} {fault}; correct the table first")
            if not file.startswith(replace):
                kept[file] = {key: value for key, value in row.items() if value}
    return kept


def write_rows(path: Path, rows: dict[str, dict], into: Path, aside: list[str]) -> None:
    """Write a table of attributes; one with other cells in the same rows is moved to REPLACED first."""
    columns = list(dict.fromkeys(["person", "smile", *(key for row in rows.values() for key in row)]))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", *columns])
    table.writerows([file, *(row.get(key, "") for key in columns)] for file, row in sorted(rows.items()))
    filled = {file: {key: str(cell) for key, cell in row.items() if str(cell)} for file, row in rows.items()}
    if any(row != filled.get(file) for file, row in other_rows(path, "\0").items()):
        put_aside(path, b"", into, aside)
    write_bytes(path, text.getvalue().encode())
