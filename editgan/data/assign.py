"""Assign the pictures of a source to the splits: by person if known, and within the source's own partition, if any.

All pictures of a person belong to one split, so no person appears both in training and in validation or test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Splits choose in this order, the most demanding first. A source's own train, val and test partition is respected.
PARTITION = {"pool": "train", "test": "test", "val": "val", "reference": "test", "train": "train"}
WANT_MASKS = ("pool", "test", "val")


@dataclass(frozen=True)
class Picture:
    """What determines the split of a picture."""

    person: str
    partition: str | None
    masked: bool
    smiles: bool


def assign(pictures: Sequence[Picture], counts: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """Indices of the pictures of each split. Persons are taken in a seeded random order.

    A split with too few suitable pictures gets all that are suitable. Test pictures do not smile. If any pictures have
    masks, the pool holds only such pictures, and test and val prefer them.
    """
    groups: dict[tuple[str | None, str], list[int]] = {}
    for index, picture in enumerate(pictures):
        groups.setdefault((picture.partition, picture.person), []).append(index)
    people = sorted(groups, key=lambda key: (key[0] or "", key[1]))
    order = np.random.default_rng([seed, len(people)]).permutation(len(people))
    people = [people[place] for place in order]
    any_masks = any(picture.masked for picture in pictures)
    taken: set[tuple[str | None, str]] = set()
    chosen: dict[str, list[int]] = {}
    for split, partition in PARTITION.items():

        def suits(index: int, split: str = split) -> bool:
            picture = pictures[index]
            return not (split == "test" and picture.smiles) and (split != "pool" or picture.masked or not any_masks)

        wants = split in WANT_MASKS
        mine = [key for key in people if key[0] in (None, partition) and key not in taken]
        mine = [key for key in mine if any(map(suits, groups[key]))]
        mine.sort(key=lambda key: all(pictures[i].masked for i in groups[key] if suits(i)) is not wants)
        chosen[split] = []
        for key in mine:
            if len(chosen[split]) == counts[split]:
                break
            chosen[split] += [index for index in groups[key] if suits(index)][: counts[split] - len(chosen[split])]
            taken.add(key)
    return chosen


def covering_first(shown: np.ndarray, count: int) -> list[int]:
    """Order N pictures so that the first `count` show every class, rare classes repeatedly; the rest keep their order.

    Args:
        shown: which classes each picture shows  # bool [N, K]
    """
    rest, first = list(range(len(shown))), []
    times = np.zeros(shown.shape[1])
    while rest and len(first) < count:
        worth = (shown[rest] * 0.5**times).sum(1)
        best = rest.pop(int(worth.argmax()))
        first.append(best)
        times += shown[best]
    return first + rest
