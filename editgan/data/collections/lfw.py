"""Labeled Faces in the Wild, any of its versions (lfw-deepfunneled.tgz, lfw.tgz): PERSON/PERSON_0001.jpg.

The data set has no expressions. Those of muxspace/facial_expressions (data/legend.csv: user.id, image, emotion) use its
file names. A picture on which several annotators disagree counts as unlabelled.
"""

import re
from pathlib import Path

from editgan.data.archive import NO_PARTS
from editgan.data.collections.files import Files, Found, content_of
from editgan.data.sources.listing import Listing, Rejected
from editgan.data.tables import file_name, nfc, read_table
from editgan.errors import UserError

PHOTO = re.compile(r"(?:.*/)?([^/]+)/(\1_\d{4}\.jpg)")
SMILE = {"happiness": 1.0, "neutral": 0.0}
UNCLEAR = 0.1  # smile value of other expressions and of unlabelled pictures: neither smiling nor neutral


def list_photos(files: Files, labels: Path | None) -> Listing:
    """Photos with the smile value of their label.

    Raises:
        UserError: the table of labels does not have the published format.
    """
    emotions = read_emotions(labels) if labels is not None else {}
    found, rejected, labelled = [], [], set()
    for name in files.names:
        match = PHOTO.fullmatch(name)
        if match is None:
            rejected.append(Rejected(name, "its name does not match PERSON/PERSON_0001.jpg"))
            continue
        labelled.add(nfc(match[2]))
        emotion = emotions.get(nfc(match[2]))
        attributes = {"smile": SMILE.get(emotion, UNCLEAR)} | ({"emotion": emotion} if emotion else {})
        found.append(Found(name, match[1], attributes))
    if found and emotions and not labelled & emotions.keys():
        example = f"they are of e.g. {next(iter(emotions))!r}, the photos are e.g. {found[0].file!r}"
        raise UserError(f"{labels}: no label is of a photo; {example}")
    reason = f"has a label in {labels}, but there is no such photo"
    rejected += [Rejected(image, reason) for image in emotions.keys() - labelled]
    return Listing(found, rejected, NO_PARTS)


def read_emotions(path: Path) -> dict[str, str | None]:
    """Emotion by file name; None if the labels disagree. Raises UserError: not a table with these columns."""
    emotions: dict[str, str | None] = {}
    for _, row in read_table(content_of(path), path, ["image", "emotion"]).rows:
        image, emotion = file_name(row["image"]).rpartition("/")[2], row["emotion"].lower()
        emotions[image] = emotion if emotions.get(image, emotion) == emotion else None
    return emotions
