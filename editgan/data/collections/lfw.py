"""Labeled Faces in the Wild, any of its versions (lfw-deepfunneled.tgz, lfw.tgz): PERSON/PERSON_0001.jpg.

The data set has no expressions. Those of muxspace/facial_expressions (data/legend.csv: user.id, image, emotion) use its
file names. A picture on which several annotators disagree counts as unlabelled.
"""

import re
from pathlib import Path

from editgan.data.archive import NO_PARTS
from editgan.data.collections.files import Files, Found, table_text
from editgan.data.sources.listing import Listing, Rejected, parse_csv
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
    found, rejected = [], []
    for name in files.names:
        match = PHOTO.fullmatch(name)
        if match is None:
            rejected.append(Rejected(name, "its name does not match PERSON/PERSON_0001.jpg"))
            continue
        emotion = emotions.get(match[2])
        attributes = {"smile": SMILE.get(emotion, UNCLEAR)} | ({"emotion": emotion} if emotion else {})
        found.append(Found(name, match[1], attributes))
    return Listing(found, rejected, NO_PARTS)


def read_emotions(path: Path) -> dict[str, str | None]:
    """Emotion by file name; None if the labels disagree."""
    columns, rows = parse_csv(table_text(path), path)
    if not rows or not {"image", "emotion"} <= set(columns):
        raise UserError(f"{path}: the header must name the columns image and emotion")
    emotions: dict[str, str | None] = {}
    for row in rows:
        image, emotion = row["image"], row["emotion"].strip().lower()
        emotions[image] = emotion if emotions.get(image, emotion) == emotion else None
    return emotions
