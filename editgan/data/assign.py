"""Assign the pictures of a source to the splits: by person if known, and within the source's own partition, if any.

All pictures of a person belong to one split, so no person appears both in training and in validation or test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from editgan.data.duplicates import connected
from editgan.data.params import DataParams
from editgan.data.protocol import SMILE, Protocol
from editgan.data.sources.listing import Item, Rejected
from editgan.errors import UserError

COUNTED = ("train", "pool", "val", "test", "reference")
# Splits choose in this order, the most demanding first. A source's own train, val and test partition is respected.
PARTITION = {"pool": "train", "test": "test", "val": "val", "reference": "test", "train": "train"}
WANT_MASKS = ("pool", "test", "val")


@dataclass(frozen=True)
class Picture:
    """What determines the split of a picture."""

    person: str
    partition: str | None
    masked: bool
    smiles: bool  # or is not known to be without the attribute of another benchmark


def choose(
    used: Sequence[tuple[Item, dict]],
    people: Sequence[str],
    params: DataParams,
    seed: int,
    rejected: Sequence[Rejected],
    protocol: Protocol = SMILE,
) -> dict[str, list[int]]:
    """Assign items, given with their records, to splits; the labelled items come first in the pool.

    Args:
        people: the person of each item (`people_of`)
    Returns:
        for each split, the places of its items in `used`
    Raises:
        UserError: too few pictures for the requested splits; the message lists every rejected file.
    """
    pictures = [
        Picture(person, item.partition, any(record["pixels"]), not protocol.without(record["attributes"]))
        for person, (item, record) in zip(people, used, strict=True)
    ]
    counts = {split: getattr(params, split) for split in COUNTED}
    chosen = assign(pictures, counts, seed, reshuffle=not protocol.faces)
    short = [split for split in COUNTED if len(chosen[split]) < counts[split]]
    if short:
        lines = [f"  {split}: {counts[split]} requested (data.{split}), {len(chosen[split])} found" for split in short]
        listed = "".join(f"\n  {file}: {reason}" for file, reason in rejected)
        raise UserError(
            (f"rejected files: {len(rejected)}{listed}\n" if rejected else "")
            + f"{params.folder}: too few pictures: {len(pictures)} are usable:\n"
            + "\n".join(lines)
            + "\nAll pictures of a person belong to one split (and one partition, if there is one); test pictures "
            + ("do not smile" if protocol.faces else f"are without {protocol.attribute} (at most {protocol.low:g})")
            + "; if any pictures have masks, the pool holds only pictures with masks"
        )
    pixels = np.array([used[place][1]["pixels"] for place in chosen["pool"]])  # [N, K]
    smiles = np.array([[pictures[place].smiles, not pictures[place].smiles] for place in chosen["pool"]])
    order = covering_first(np.concatenate([pixels > 0, smiles], axis=1), params.few_shot)
    pool = [chosen["pool"][place] for place in order]
    return chosen | {"pool": pool, "test_smiling": smiling_ones([item for item, _ in used], chosen["test"])}


def smiling_ones(items: Sequence[Item], test: Sequence[int]) -> list[int]:
    """For each test picture, the same person's smiling picture that names it as `neutral`; empty if any lacks one.

    Of another class, the picture of the same thing with the attribute.
    """
    smiling = {item.attributes["neutral"]: i for i, item in enumerate(items) if "neutral" in item.attributes}
    found = [smiling.get(items[index].file.partition("/")[2]) for index in test]
    missing = found.count(None)
    if 0 < missing < len(found):
        print(f"no true changes in the benchmark: {missing} of {len(found)} test pictures have none", flush=True)
    return [] if missing else found


def people_of(items: Sequence[Item], copies: Sequence[Sequence[int]]) -> list[str]:
    """The person of each item. People who share a photograph count as one, because all copies go to one split.

    Args:
        copies: places of items that show the same photograph, one group each
    """
    people = [person_of(item) for item in items]
    first: dict[str, int] = {}
    links = [(first.setdefault(person, place), place) for place, person in enumerate(people)]
    links += [(group[0], place) for group in copies for place in group]
    for group in connected(len(items), links):
        name = min(people[place] for place in group)
        for place in group:
            people[place] = name
    return people


def person_of(item: Item) -> str:
    """The person on the picture; if unknown, a person of which this is the only picture."""
    return f"person {item.person}" if item.person is not None else f"file {item.file}"


def assign(
    pictures: Sequence[Picture], counts: Mapping[str, int], seed: int, *, reshuffle: bool = False
) -> dict[str, list[int]]:
    """Indices of the pictures of each split. Persons are taken in a seeded random order.

    With one order for all splits, those after test have few of the pictures that suit test at the start of the order,
    which matters if there are few pictures. `reshuffle`: an order for each split.

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
        if reshuffle:
            order = np.random.default_rng([seed, len(people), COUNTED.index(split)]).permutation(len(people))
            people = [people[place] for place in order]
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
