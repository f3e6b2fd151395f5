"""Pictures that are the same photograph: equal files, and copies that were saved, resized or recoloured again.

Candidates have similar perceptual hashes (64 bits, package `imagehash`). Aligned faces look alike to a hash, so a
candidate counts only if its pixels confirm it. Moved, cropped or mirrored copies are not found.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence

import imagehash
import numpy as np
from PIL import Image

HASH_BITS = 8  # most bits in which the hashes of copies differ
SIDE = 16  # pictures are compared at this size, at which the losses of JPEG in small pictures average out
DIFFERENCE = 0.16  # mean difference after fitting brightness and contrast, relative to the picture's contrast;
# JPEG of quality 40 changes 64 px by at most 0.153, and the most similar of 4.2 million pairs of heads differ by 0.296
# in their colours, and by 0.261 in grey
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # shares of red, green and blue (ITU-R BT.601)
PAIRS = 4096  # pairs that are compared at once


def perceptual_hash(image: np.ndarray) -> str:
    """64-bit perceptual hash of a picture, uint8 [H, W, 3], as 16 hex digits."""
    return str(imagehash.phash(Image.fromarray(image)))


def thumbnail(png: bytes) -> np.ndarray:
    """A picture as it is compared.  # float32 [SIDE * SIDE * 3]"""
    with Image.open(io.BytesIO(png)) as picture:
        small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel()


def find_copies(
    digests: Sequence[str], hashes: Sequence[str], read: Callable[[Sequence[int]], Iterator[bytes]]
) -> list[list[int]]:
    """Groups of pictures that are the same photograph, as sorted places; pictures without a copy are in none.

    Args:
        digests: hash of each picture's file
        hashes: perceptual hash of each picture
        read: gives the PNG bytes of the pictures at some places
    """
    first: dict[str, int] = {}
    links = [(first.setdefault(digest, place), place) for place, digest in enumerate(digests)]
    distinct = np.array(list(first.values()), int)
    codes = np.array([int(hashes[place], 16) for place in distinct], np.uint64)
    candidates = [(distinct[a], distinct[b]) for a, b in similar(codes)]
    shown = sorted({place for pair in candidates for place in pair})
    row = {place: index for index, place in enumerate(shown)}
    small = np.stack([thumbnail(png) for png in read(shown)]) if shown else np.empty((0, SIDE * SIDE * 3), np.float32)
    for start in range(0, len(candidates), PAIRS):
        pairs = candidates[start : start + PAIRS]
        left, right = (small[[row[pair[side]] for pair in pairs]] for side in (0, 1))
        links += [pair for pair, same in zip(pairs, same_photo(left, right), strict=True) if same]
    together = connected(len(digests), links)
    return [group for group in together if len(group) > 1]


def similar(codes: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of hashes, uint64 [N], that differ in at most HASH_BITS bits."""
    pairs = []
    for start in range(0, len(codes), 256):
        part = codes[start : start + 256]
        near = np.bitwise_count(part[:, None] ^ codes) <= HASH_BITS  # [256, N]
        for left, right in np.argwhere(near).tolist():
            if start + left < right:
                pairs.append((start + left, right))
    return pairs


def same_photo(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Whether pictures are equal up to brightness and contrast, in their colours or in grey.

    Args:
        left, right: pictures, one a row  # float32 [P, pixels * 3]
    Returns:
        bool [P]
    """
    grey = (pictures.reshape(len(pictures), -1, 3) @ GREY for pictures in (left, right))
    return _alike(left, right) | _alike(*grey)


def _alike(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Whether pictures are equal up to brightness and contrast.  # float32 [P, values] -> bool [P]"""
    left, right = (pictures - pictures.mean(1, keepdims=True) for pictures in (left, right))
    contrast = np.minimum(np.abs(left).mean(1), np.abs(right).mean(1))
    product = (left * right).sum(1)
    same = (product > 0) & (contrast > 1)
    for one, other in ((left, right), (right, left)):
        gain = product / np.maximum((other**2).sum(1), 1e-6)
        same &= np.abs(one - gain[:, None] * other).mean(1) <= DIFFERENCE * contrast
    return same


def connected(count: int, links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The numbers below `count`, grouped by links between them; groups and their members are sorted."""
    above = list(range(count))

    def top(place: int) -> int:
        while above[place] != place:
            above[place] = above[above[place]]
            place = above[place]
        return place

    for one, other in links:
        low, high = sorted((top(int(one)), top(int(other))))
        above[high] = low
    groups: dict[int, list[int]] = {}
    for place in range(count):
        groups.setdefault(top(place), []).append(place)
    return list(groups.values())


def copies_csv(groups: Sequence[Sequence[str]]) -> bytes:
    """One row per file: number of its group, file."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["group", "file"])
    table.writerows([number, file] for number, group in enumerate(groups, 1) for file in group)
    return text.getvalue().encode()
