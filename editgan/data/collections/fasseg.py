"""FASSEG V2 (Khan, Mauro, Leonardi): frontal faces with hand-made part masks, stored as colours.

Train_RGB/N.bmp with Train_Labels/N.bmp, and likewise Test, as in the official folder V2; or train/N.jpg with
train/N_label.png, and likewise test/. Pixels on the border of two parts have mixed colours and get the nearest one.
"""

import io
import re
from pathlib import Path

import numpy as np

from editgan.data.archive import Classes
from editgan.data.collections.files import Files, Found
from editgan.data.sources.listing import Listing, Rejected
from editgan.decoding import open_picture

PHOTO = re.compile(r"(.*/|)(train|test)(?:_RGB)?/(\d+)\.(?:jpg|png|bmp)", re.IGNORECASE)
LABEL = re.compile(r"(.*/|)(train|test)(?:/(\d+)_label|_labels/(\d+))\.(?:png|bmp)", re.IGNORECASE)
CLASSES = Classes(
    names=["background", "skin", "hair", "nose", "mouth", "eyes"],
    palette=np.array([(255, 0, 0), (255, 255, 0), (127, 0, 0), (0, 255, 255), (0, 255, 0), (0, 0, 255)], np.uint8),
)


def list_photos(files: Files, labels: Path | None) -> Listing:
    """Photos with masks; `partition` is the official half.

    Each photo counts as a separate person, since persons are not labelled. Ten persons of the test half are also in the
    training half (docs/results/photographs.md).
    """
    photos = [match for name in files.names if (match := PHOTO.fullmatch(name))]
    found = [match for name in files.names if (match := LABEL.fullmatch(name))]
    masks = {(match[1], match[2].lower(), match[3] or match[4]): match[0] for match in found}
    found, rejected, rest = [], [], {name: None for name in files.names}
    for match in photos:
        name, half, number = match[0], match[2].lower(), match[3]
        mask = masks.get((match[1], half, number))
        del rest[name]
        if mask is None:
            rejected.append(Rejected(name, f"has no mask: neither {number}_label.png nor one in {half}_Labels"))
            continue
        rest.pop(mask, None)
        found.append(Found(name, f"{half} {number}", {"partition": half}, lambda mask=mask: nearest(files.read(mask))))
    rejected += [Rejected(name, "is neither a photo nor a mask of one") for name in rest]
    return Listing(found, rejected, CLASSES)


def nearest(content: bytes) -> np.ndarray:
    """Class numbers of a painted mask: the nearest colour for each pixel.  # uint8 [H, W]"""
    painted = np.asarray(open_picture(io.BytesIO(content), ("PNG", "BMP")).convert("RGB"))
    palette, labels = CLASSES.palette.astype(np.int32), np.empty(painted.shape[:2], np.uint8)
    for row, colours in enumerate(painted):  # uint8 [W, 3]
        labels[row] = ((colours[:, None].astype(np.int32) - palette) ** 2).sum(-1).argmin(-1)
    return labels
