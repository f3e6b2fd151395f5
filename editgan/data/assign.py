"""Which pictures of a source each split holds: by person where people are known, in the source's own partition if any.

All pictures of a person lie in one split, so that nothing is chosen or measured on somebody who was learned from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# In this order they choose: what asks for most first. A source's train, val and test are divided as named.
PARTITION = {"pool": "train", "test": "test", "val": "val", "reference": "test", "train": "train"}
WANT_MASKS = ("pool", "test", "val")


@dataclass(frozen=True)
class Picture:
    """What the split of a picture depends on."""

    person: str
    partition: str | None
    masked: bool
    smiles: bool


def assign(pictures: Sequence[Picture], counts: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """Pictures of each split, in a seeded order of people; a split that cannot be filled holds all that fit.

    Test pictures do not smile. The pool consists of pictures with masks, if there are any; test and val prefer them.
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
    """Order of N pictures whose first `count` show every class, the rare ones again and again; the rest as they were.

    Args:
        shown: which class each picture shows  # bool [N, K]
    """
    rest, first = list(range(len(shown))), []
    times = np.zeros(shown.shape[1])
    while rest and len(first) < count:
        worth = (shown[rest] * 0.5**times).sum(1)
        best = rest.pop(int(worth.argmax()))
        first.append(best)
        times += shown[best]
    return first + rest
