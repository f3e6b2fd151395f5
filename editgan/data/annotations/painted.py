"""Folders of PNG masks: those of CVAT (Segmentation mask 1.1), of Label Studio (brush labels), and plain ones.

CVAT           labelmap.txt (name:r,g,b::) and SegmentationClass/NAME.png, in these colours
Label Studio   task-ID-annotation-ID-by-USER-TAG-LABEL-N.png, white where the label is; the JSON export beside them
               tells which task is which picture
plain          masks/NAME.png, pixel values or colours of classes.json
"""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

import numpy as np

from editgan.data.annotations.parts import UNLABELLED, Annotation, Part, label_key
from editgan.data.archive import Classes
from editgan.data.sources.listing import Rejected
from editgan.data.tables import file_name, folded
from editgan.decoding import ENDINGS, open_picture
from editgan.errors import Unusable, UserError
from editgan.labels import IGNORE, decode_mask

LABELMAP, MERGED = "labelmap.txt", "segmentationclass"
BRUSH = re.compile(r"task-(\d+)-annotation-(\d+)-by-(.*)-\d+\.png", re.IGNORECASE)
UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio puts eight digits before the name of an uploaded picture


def labelmap(text: str) -> Classes:
    """Names and colours of CVAT's labelmap.txt. Raises UserError: a line is not `name:r,g,b:parts:actions`."""
    rows = [line.split(":") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        palette = np.array([[int(value) for value in row[1].split(",")] for row in rows], np.uint8).reshape(-1, 3)
    except (IndexError, ValueError, OverflowError) as error:
        raise UserError(f"{LABELMAP}: a line is not name:r,g,b:: ({error})") from None
    return Classes([row[0].strip() for row in rows], palette)


def merged_masks(
    names: Sequence[str], read: Callable[[str], bytes], classes: Classes, folder: str, rejected: list[Rejected]
) -> list[Annotation]:
    """The masks of all classes in a folder of one of CVAT's exports, or in masks/; damaged ones go to `rejected`."""
    found = []
    for name in names:
        parts = [folded(part) for part in PurePosixPath(name).parts[:-1]]
        if folder not in parts or not name.lower().endswith(".png"):
            continue
        stem = "/".join(PurePosixPath(name).parts[parts.index(folder) + 1 :]).rpartition(".")[0]
        size = size_in(read(name), name, rejected)
        if size is not None:
            notes: list[str] = []

            def parts(name=name, notes=notes) -> list[Part]:
                return split(read(name), classes, notes)

            found.append(Annotation(name, [f"{stem}.png"], size, parts, notes=notes))
    return found


def split(content: bytes, classes: Classes, notes: list[str]) -> list[Part]:
    """A mask of all classes as one part a class; `notes` gets how it was read.

    Raises:
        ValueError: an unknown colour or label.
    """
    try:
        mask = decode_mask(io.BytesIO(content), len(classes.names), classes.palette, ignore=True)
    except Unusable as reason:
        raise ValueError(str(reason)) from None
    labels = mask.labels
    notes += mask.notes
    names = [*classes.names, *[UNLABELLED] * (IGNORE + 1 - len(classes.names))]
    return [Part(names[number], pixels=labels == number) for number in np.unique(labels) if number]


def size_in(content: bytes, name: str, rejected: list[Rejected]) -> tuple[int, int] | None:
    """Width and height of a PNG; one that cannot be decoded is added to `rejected`."""
    try:
        return open_picture(io.BytesIO(content), ("PNG",)).size
    except Unusable as reason:
        rejected.append(Rejected(name, str(reason)))
        return None


def brush_masks(
    names: Sequence[str],
    read: Callable[[str], bytes],
    tasks: dict[int, str],
    labels: Sequence[str],
    rejected: list[Rejected],
) -> list[Annotation]:
    """Label Studio's masks, one a label, joined by task; of damaged ones, the first is added to `rejected`.

    Args:
        tasks: the picture of each task
        labels: known labels; an unknown one is what follows the last `-` before the number
    Raises:
        UserError: no export tells which task is which picture.
    """
    by_task: dict[int, list[tuple[str, str]]] = {}
    versions: dict[int, set[str]] = {}
    for name in names:
        match = BRUSH.fullmatch(name.rpartition("/")[2])
        if match:
            by_task.setdefault(int(match[1]), []).append((name, brush_label(match[3], labels)))
            versions.setdefault(int(match[1]), set()).add(match[2])
    found = []
    for task, masks in sorted(by_task.items()):
        if task not in tasks:
            remedy = "export the project as JSON too, and put that file beside the masks"
            raise UserError(f"{masks[0][0]}: nothing says which picture task {task} shows; {remedy}")

        def parts(masks=masks) -> list[Part]:
            return [Part(label, pixels=painted(read(name))) for name, label in masks]

        first, count = masks[0][0], len(versions[task])
        notes = [f"has {count} annotations, and the masks of all of them were drawn"] if count > 1 else []
        size = size_in(read(first), first, rejected)
        if size is not None:
            found.append(Annotation(f"task {task}", [tasks[task]], size, parts, notes=notes))
    return found


def brush_label(rest: str, labels: Sequence[str]) -> str:
    """The label in `USER-TAG-LABEL`, each of which may contain `-`."""
    fitting = [label for label in labels if label_key(rest).endswith(f"_{label_key(label)}")]
    return max(fitting, key=len) if fitting else rest.rpartition("-")[2]


def painted(content: bytes) -> np.ndarray:
    """Where a mask of one label is not black.  # bool [H, W]"""
    try:
        return np.array(open_picture(io.BytesIO(content), ("PNG",)).convert("L")) > 127
    except Unusable as reason:
        raise ValueError(str(reason)) from None


def pictures_of_tasks(content) -> dict[int, str]:
    """The picture of each task in Label Studio's JSON or JSON-MIN export; {} if it is something else."""
    tasks = {}
    for task in content if isinstance(content, list) else ():
        if not isinstance(task, dict) or not isinstance(task.get("id"), int):
            return {}
        data = task.get("data") if isinstance(task.get("data"), dict) else task
        given = [task.get("file_upload"), *data.values()]
        named = [name for one in given if isinstance(one, str) and (name := picture_at(one))]
        if named:
            upload = UPLOAD.fullmatch(named[0])
            tasks[task["id"]] = upload[1] if upload else named[0]
    return tasks


def picture_at(given: str) -> str | None:
    """The name of the picture at a path or address; None if it is something else."""
    address = "://" in given or given.startswith("/")
    for one in (given, given.partition("?")[0]) if address else (given,):
        name = file_name(unquote(one) if address else one).rpartition("/")[2]
        if name.lower().endswith(ENDINGS):
            return name
    return None


def brush_labels(content) -> list[str]:
    """The labels that Label Studio's export says were painted with a brush."""
    found: dict[str, None] = {}
    rest = [content]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            labels = one.get("brushlabels")
            found |= {label: None for label in labels if isinstance(label, str)} if isinstance(labels, list) else {}
        rest += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return list(found)
