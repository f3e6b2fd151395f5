"""The splits, and the random streams from which their identities are drawn."""

SPLITS = ("train", "pool", "val", "test", "test_smiling", "reference")
IDENTITIES = {"train": 0, "pool": 1, "val": 2, "test": 3, "test_smiling": 3, "reference": 4}  # disjoint random streams
IDENTITIES |= {"changed": IDENTITIES["train"]}  # training pictures with the attribute of the benchmark, for classifiers
IDENTITIES_PER_STREAM = 1_000_000


def is_changed(split: str, index: int) -> bool:
    """Whether picture `index` of a split shows the attribute of the benchmark, for heads a smile, by arrangement."""
    return index % 2 == 1 if split == "reference" else split in ("test_smiling", "changed")
