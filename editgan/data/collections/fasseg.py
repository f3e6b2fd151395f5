"""FASSEG V2 (Khan, Mauro, Leonardi): frontal faces with hand-made part masks, painted as colours.

train/N.jpg with train/N_label.png, the same in test/: pixels between two parts are mixtures of their colours and
get the nearest one.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from editgan.data.archive import Classes
from editgan.data.collections.files import Files, Found
from editgan.data.sources.listing import Rejected

PHOTO = re.compile(r"(?:.*/)?(train|test)/(\d+)\.(?:jpg|png|bmp)", re.IGNORECASE)
LABEL = re.compile(r"(?:.*/)?(train|test)/(\d+)_label\.(?:png|bmp)", re.IGNORECASE)
CLASSES = Classes(
    names=["background", "skin", "hair", "nose", "mouth", "eyes"],
    palette=np.array([(255, 0, 0), (255, 255, 0), (127, 0, 0), (0, 255, 255), (0, 255, 0), (0, 0, 255)], np.uint8),
)


def list_photos(files: Files, labels: Path | None) -> tuple[list[Found], list[Rejected], Classes]:
    """Photos with masks; each is of another person, and `partition` says the makers' half."""
    photos = {match[0]: match for name in files.names if (match := PHOTO.fullmatch(name))}
    masks = {(match[1].lower(), match[2]): name for name in files.names if (match := LABEL.fullmatch(name))}
    found, used, rejected = [], set(), []
    for name, match in photos.items():
        key = (match[1].lower(), match[2])
        if key not in masks:
            rejected.append(Rejected(name, f"has no mask {match[2]}_label.png beside it"))
            continue
        used.add(masks[key])
        found.append(
            Found(name, f"{key[0]} {key[1]}", {"partition": key[0]}, lambda file=masks[key]: nearest(files.read(file)))
        )
    rest = [name for name in files.names if name not in photos and name not in used]
    return found, [*rejected, *(Rejected(name, "is neither photo nor mask of one") for name in rest)], CLASSES


def nearest(content: bytes) -> np.ndarray:
    """Class numbers of a painted mask: each pixel that of the nearest colour.  # uint8 [H, W]"""
    painted = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(np.int32)
    distance = ((painted[:, :, None] - CLASSES.palette.astype(np.int32)) ** 2).sum(-1)  # [H, W, K]
    return distance.argmin(-1).astype(np.uint8)
