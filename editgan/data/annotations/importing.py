"""Labels of other programs as masks of a folder for source `folder`: `editgan import labels`.

The format is recognised: LabelMe JSON, COCO JSON, or PNG masks of CVAT, Label Studio or any program.
"""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from editgan.data.annotations import coco, labelme, painted
from editgan.data.annotations.parts import BACKGROUND, UNLABELLED, Annotation, drawn, label_key
from editgan.data.archive import Classes, encode_mask, load_classes, parse_classes, save_classes
from editgan.data.collections.files import Files, opened
from editgan.data.sources.folder import CLASSES, ENDINGS, IMAGES, MASKS
from editgan.data.sources.listing import (
    Rejected,
    Unusable,
    entry,
    files_below,
    ignored_note,
    leads_out,
    like_masks,
    repeated,
)
from editgan.data.tables import folded, nfc
from editgan.decoding import open_picture
from editgan.errors import UserError
from editgan.weights import write_bytes

LABELS = "labels.txt"  # one label a line, as LabelMe reads it


class Labelled(NamedTuple):
    """Number of masks written, the classes, files without use with reasons, and notes."""

    masks: int
    classes: Classes
    rejected: list[Rejected]
    notes: list[str]


class Read(NamedTuple):
    """What a source of labels holds: annotations, and its classes in order (None: they are those that occur)."""

    annotations: list[Annotation]
    classes: Classes | None


def import_labels(
    path: Path, into: Path, *, overwrite: bool = False, report: Callable[[int, int], None] = lambda done, total: None
) -> Labelled:
    """Draw the masks of labelled pictures into INTO/masks; pictures that INTO lacks are copied into INTO/images.

    Classes are those of INTO/classes.json; without it, of the source, and the file is written. Later classes cover
    earlier ones. A picture with an unknown label, or whose size differs, is left out and named.

    Args:
        path: folder or archive with the labels
        overwrite: replace masks that differ
    Raises:
        UserError: no labels were found, none fits a picture, or a file that is needed is damaged.
    """
    with opened(path) as files:
        rejected, notes = [*files.rejected], ignored_note(files.ignored)
        listed = into / entry_of(into, CLASSES)
        known = load_classes(listed) if listed.exists() else None
        found = read_source(files, known, rejected)
        if not found.annotations:
            others = "; ".join(f"{file}: {reason}" for file, reason in rejected[:3])
            fault = "no labels found: expected LabelMe or COCO JSON, or PNG masks of CVAT, Label Studio or masks/"
            raise UserError(f"{path}: {fault}{f' ({others})' if others else ''}")
        classes = known or found.classes or classes_in(found.annotations)
        check_names(classes, listed if known else path)
        targets = pictures_in(into)
        written: dict[str, str] = {}
        remarks: list[tuple[str, str]] = []
        for done, one in enumerate(found.annotations, 1):
            try:
                write_one(one, files, into, targets, classes, written, overwrite)
                remarks += [(one.file, note) for note in one.notes]
            except ValueError as reason:
                rejected.append(Rejected(one.file, str(reason)))
            report(done, len(found.annotations))
    rejected = sorted(set(rejected))
    if not written:
        listed = "".join(f"\n  {file}: {reason}" for file, reason in rejected[:20])
        raise UserError(f"{path}: none of its {len(found.annotations)} labelled pictures can be used:{listed}")
    if known is None:
        save_classes(into / CLASSES, classes)
        notes.append(f"{into / CLASSES} was written; reorder it and import again to change what covers what")
    notes += repeated(remarks)
    order = ", ".join(classes.names[1:])
    notes.append(f"parts are drawn in the order of {CLASSES}, later ones cover earlier ones: {order}")
    return Labelled(len(written), classes, rejected, notes)


def check_names(classes: Classes, place: Path) -> None:
    """Raise UserError for two classes that a label could mean."""
    first: dict[str, str] = {}
    for name in classes.names:
        if label_key(name) in first:
            named = f"{first[label_key(name)]!r} or {name!r}"
            raise UserError(f"{place}: labels are compared without letter case and blanks, so rename {named}")
        first[label_key(name)] = name


def entry_of(into: Path, name: str) -> str:
    return entry(into, name) if into.is_dir() else name


def read_source(files: Files, known: Classes | None, rejected: list[Rejected]) -> Read:
    """All annotations of a source; files that are none are added to `rejected`."""
    named = {folded(name.rpartition("/")[2]): name for name in files.names}
    classes = None
    if painted.LABELMAP in named:
        classes = background_first(painted.labelmap(files.text(named[painted.LABELMAP])))
    elif CLASSES in named:
        classes = parse_classes(files.read_needed(named[CLASSES]), named[CLASSES])
    elif LABELS in named:
        lines = files.text(named[LABELS]).splitlines()
        classes = coloured([line.strip() for line in lines if line.strip() and line.strip() != UNLABELLED])
    found: list[Annotation] = []
    tasks: dict[int, str] = {}
    listings, brushes = [], []
    for name in files.names:
        if not name.lower().endswith(".json") or folded(name.rpartition("/")[2]) == CLASSES:
            continue
        try:
            content = json.loads(files.read_needed(name).decode("utf-8-sig"))
            if labelme.is_labelme(content):
                if content["shapes"]:
                    found.append(labelme.annotation(content, name))
                else:
                    rejected.append(Rejected(name, "has no shapes: not labelled"))
            elif coco.is_coco(content):
                more, categories = coco.annotations(content, name)
                found += more
                classes = classes or coloured(categories)
            elif pictures := painted.pictures_of_tasks(content):
                tasks |= pictures
                listings.append(name)
                brushes += painted.brush_labels(content)
            else:
                rejected.append(Rejected(name, "is neither LabelMe's nor COCO's nor Label Studio's JSON"))
        except (ValueError, RecursionError) as error:
            rejected.append(Rejected(name, f"is not readable as JSON ({error})"))
        except UserError as error:
            rejected.append(Rejected(name, str(error)))
    names, read = files.names, files.read_needed
    labels = (known or classes).names if known or classes else brushes
    masks = painted.brush_masks(names, read, tasks, labels, rejected)
    if not masks:
        remedy = "its masks are read from its export `Brush labels to PNG`, which is not beside it"
        rejected += [Rejected(name, f"is Label Studio's list of tasks; {remedy}") for name in listings]
    found += masks
    if painted.LABELMAP in named:
        found += painted.merged_masks(names, read, classes, painted.MERGED, rejected)
    elif not found and (known or classes):
        found += painted.merged_masks(names, read, classes or known, MASKS, rejected)
    return Read(found, classes)


def write_one(
    one: Annotation,
    files: Files,
    into: Path,
    targets: dict[str, str | None],
    classes: Classes,
    written: dict[str, str],
    overwrite: bool,
) -> None:
    """Write the mask of a picture and list it in `written`. Raises ValueError: why it cannot be used."""
    name, content = find_picture(one, files, targets)
    if name in written:
        raise ValueError(f"labels the picture {name}, as {written[name]} does; join them, or import one of them")
    if content is None:
        content = (into / entry(into, IMAGES) / name).read_bytes()
    try:
        size = open_picture(io.BytesIO(content)).size
    except Unusable as reason:
        raise ValueError(f"its picture {name} {reason}") from None
    if size != one.size:
        labelled = f"labels are of {one.size[0]}x{one.size[1]} pixels"
        raise ValueError(f"its picture {name} is {size[0]}x{size[1]}, but the {labelled}")
    parts = one.read()
    labels = drawn(parts, classes.names, one.size)
    if any(label_key(part.label) in BACKGROUND for part in parts):
        one.notes.append("its parts cover its background, which cuts no holes into them")
    if not labels.any():
        raise ValueError("covers no pixel: not labelled")
    mask = encode_mask(labels, classes.palette)
    stem = PurePosixPath(name).with_suffix(".png").as_posix()
    target, picture = into / entry_of(into, MASKS) / stem, into / entry_of(into, IMAGES) / name
    if target.exists() and target.read_bytes() != mask and not overwrite:
        raise ValueError(f"{target} exists and differs; --overwrite replaces it")
    if not picture.exists():
        write_bytes(picture, content)
    write_bytes(target, mask)
    written[name] = one.file


def find_picture(one: Annotation, files: Files, targets: dict[str, str | None]) -> tuple[str, bytes | None]:
    """The picture of an annotation in images/, or its content from the source. Raises ValueError: there is none."""
    stems = list(map(without_ending, one.pictures))
    for stem in (*stems, *(stem.rpartition("/")[2] for stem in stems)):
        if stem in targets:
            if targets[stem] is None:
                raise ValueError(f"several pictures in {IMAGES}/ are called {stem}")
            return targets[stem], None
    beside = beside_labels(one.pictures, files.names, anywhere=one.content is None)
    if beside is not None:
        return relative(beside), files.read_needed(beside)
    if one.content is not None:
        return PurePosixPath(relative(one.pictures[0])).with_suffix(ending_of(one.content)).as_posix(), one.content
    raise ValueError(f"its picture {one.pictures[0]} is neither in {IMAGES}/ nor beside the labels")


def beside_labels(wanted: Sequence[str], names: Sequence[str], *, anywhere: bool) -> str | None:
    """The picture among these files: with that path, else with another extension, else the only one `anywhere`."""
    pictures = [name for name in names if name.lower().endswith(ENDINGS)]
    pictures = [name for name in pictures if not any(map(like_masks, PurePosixPath(name).parts[:-1]))]
    for same in (str, without_ending):
        for one in wanted:
            inside = [name for name in pictures if f"/{same(name)}".endswith(f"/{same(one)}")]
            if inside and not leads_out(one):
                return inside[0]
    last = {without_ending(one).rpartition("/")[2] for one in wanted}
    inside = [name for name in pictures if without_ending(name).rpartition("/")[2] in last]
    return inside[0] if anywhere and len(inside) == 1 else None


def without_ending(name: str) -> str:
    return nfc(PurePosixPath(name).with_suffix("").as_posix())


def relative(name: str) -> str:
    """The path of a picture below images/: what follows the last folder `images`, else all of it."""
    parts = PurePosixPath(name).parts
    places = [place for place, part in enumerate(parts[:-1]) if folded(part) in (IMAGES, "jpegimages")]  # CVAT's
    return "/".join(parts[places[-1] + 1 :] if places else parts)


def ending_of(content: bytes) -> str:
    return ".png" if content.startswith(b"\x89PNG") else ".jpg"


def pictures_in(into: Path) -> dict[str, str | None]:
    """Pictures of images/ by path without extension, and by name alone; None: the name stands for two."""
    folder = entry_of(into, IMAGES)
    if not (into / folder).is_dir():
        return {}
    files = [name.removeprefix(f"{folder}/") for name in files_below(into, folder).files]
    files = [name for name in files if name.lower().endswith(ENDINGS)]
    stems = {without_ending(name): name for name in files}
    short: dict[str, str | None] = {}
    for stem, name in stems.items():
        last = stem.rpartition("/")[2]
        short[last] = None if last in short else name
    return short | stems


def classes_in(annotations: Sequence[Annotation]) -> Classes:
    """The labels that occur, in the order in which they first do."""
    names: dict[str, str] = {}
    for one in annotations:
        try:
            for part in one.read():
                names.setdefault(label_key(part.label), part.label)
        except ValueError:  # named when the mask is drawn
            continue
    return coloured([name for name in names.values() if name != UNLABELLED])


def coloured(names: Sequence[str]) -> Classes:
    """Classes with the colours of Pascal VOC, background first; a name that comes twice is one class."""
    distinct = {label_key(name): name for name in reversed(names)}
    names = [distinct[key] for key in dict.fromkeys(map(label_key, names)) if key not in ("", *BACKGROUND)]
    names = ["background", *names]
    bits = np.array([[index >> (3 * step) & 7 for step in range(3)] for index in range(len(names))])  # [K, 3]
    palette = sum((bits[:, step, None] >> np.arange(3) & 1) << (7 - step) for step in range(3))  # [K, 3]
    return Classes(list(names), np.asarray(palette, np.uint8))


def background_first(classes: Classes) -> Classes:
    """The classes with the background as class 0; it is added if it is missing."""
    places = [place for place, name in enumerate(classes.names) if label_key(name) in BACKGROUND]
    others = [place for place in range(len(classes.names)) if place not in places[:1]]
    names = ["background", *(classes.names[place] for place in others)]
    first = classes.palette[places[:1]] if places else np.zeros((1, 3), np.uint8)
    return Classes(names, np.concatenate([first, classes.palette[others]]))


def export_labels(pictures: Sequence[Path], out: Path, classes: Classes) -> int:
    """Copy pictures into a folder that LabelMe opens, with labels.txt; returns their number.

    Below a folder images/, they keep their paths, by which `import_labels` finds them again.

    Raises:
        UserError: no picture, two with one path, or a file that would be replaced.
    """
    contents: dict[str, bytes] = {}
    for picture in pictures:
        name = relative(picture.absolute().as_posix().lstrip("/"))
        name = name if IMAGES in map(folded, picture.absolute().parts[:-1]) else picture.name
        if name in contents:
            raise UserError(f"{picture}: a second picture with the path {name}; export them separately")
        try:
            contents[name] = picture.read_bytes()
        except OSError as error:
            raise UserError(f"{picture}: cannot be read ({error.strerror})") from None
    labels = "\n".join(["__ignore__", "_background_", *classes.names[1:], ""]).encode()
    if not contents:
        raise UserError("no pictures to label were given")
    for name, content in [*contents.items(), (LABELS, labels)]:
        if (out / name).exists() and (out / name).read_bytes() != content:
            raise UserError(f"{out / name}: exists and differs; give another folder with --out")
    for name, content in [*contents.items(), (LABELS, labels)]:
        write_bytes(out / name, content)
    return len(contents)
