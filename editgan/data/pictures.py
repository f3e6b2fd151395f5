"""Pictures of a source (a folder or CelebA-HQ): read, checked, assigned to splits."""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from editgan.data.archive import save_classes
from editgan.data.assign import COUNTED, choose, person_of
from editgan.data.blocks import Context, make_blocks, write_split
from editgan.data.reading import VERSION, read_one
from editgan.data.sources import celeba_hq, folder
from editgan.data.sources.listing import Item, Rejected, rejected_csv
from editgan.data.splits import SPLITS
from editgan.errors import UserError
from editgan.runtime.environment import home_project
from editgan.runtime.process import die_with_stage
from editgan.weights import write_bytes, write_json

SOURCES = {"folder": folder.list_pictures, "celeba_hq": celeba_hq.list_pictures}
REJECTED = "rejected.csv"  # written before any error is raised; not an output, as rendered heads have none


def read_pictures(context: Context) -> list[Path]:
    """Read a source, report every rejected file and fill the splits; returns the blocks that can be deleted.

    Raises:
        UserError: missing folder or table, or too few pictures for the requested splits.
    """
    params, seed, resolution = context.params.data, context.params.seed, context.params.resolution
    root = home_project(context.root) / params.folder
    if not root.is_dir():
        raise UserError(f"data.folder {params.folder}: no such folder ({root}); docs/data.md describes the layout")
    items, unusable, classes = SOURCES[params.source](root)
    made = make_blocks(
        functools.partial(read_one, root=root, resolution=resolution, classes=classes),
        items,
        context.work,
        lambda start, part: f"read_{start:06d}_{signature(root, part)}.zip",
        prepare=die_with_stage,
        on_block=lambda done: context.run.progress(done, len(items), "pictures", params.source),
    )
    read = list(zip(items, made.records, strict=True))
    unusable += [Rejected(item.file, record["reason"]) for item, record in read if "reason" in record]
    rejected = sorted(set(unusable))
    write_bytes(context.out / REJECTED, rejected_csv(rejected))
    usable = [index for index, record in enumerate(made.records) if "reason" not in record]
    used = [read[index] for index in usable]
    chosen = choose(used, params, seed, rejected)
    if rejected:
        print(f"rejected files ({context.out / REJECTED}): {len(rejected)}")
        print("\n".join(f"  {file}: {reason}" for file, reason in rejected), flush=True)

    notes = Counter(note for _, record in used for note in record.get("notes", ()))
    for note, count in notes.most_common():
        first = next(item.file for item, record in used if note in record.get("notes", ()))
        print(f"{first}{f' and {count - 1} more' if count > 1 else ''}: {note}", flush=True)
    save_classes(context.out / "classes.json", classes)
    everyone = sorted({person_of(item) for item, _ in used})
    people = {person: number for number, person in enumerate(everyone)}
    metrics: dict = {"rejected": len(rejected), "people": len(people)}
    for split in SPLITS:
        attributes = [
            {**record["attributes"], "identity": people[person_of(item)], "file": item.file}
            for item, record in (used[place] for place in chosen[split])
        ]
        indices = [usable[place] for place in chosen[split]]
        summary = write_split(context.out, split, made, indices, attributes, classes)
        if attributes:
            metrics[split] = summary
    pictures = [[item.file, item.person, item.partition, item.attributes, record["digest"]] for item, record in used]
    recipe = {
        "source": params.source,
        "content": sha256_of(pictures),
        "reader": VERSION,
        "seed": seed,
        "resolution": resolution,
        "data": params.model_dump(include={*COUNTED, "few_shot"}),
    }
    masks = [[item.file, [label for _, label in item.masks], record["mask_digest"]] for item, record in used]
    labels = {"content": sha256_of(masks), "reader": VERSION, "classes": list(classes.names)}
    write_json(context.out / "recipe.json", recipe)
    write_json(context.out / "labels.json", labels)
    write_json(context.out / "metrics.json", metrics)
    context.run.log_file(context.out / REJECTED)
    return made.paths


def signature(root: Path, items: Sequence[Item]) -> str:
    """Hash of the items' properties and of the sizes and modification times of their files."""
    files = [file for item in items for file in (item.file, *(mask for mask, _ in item.masks))]
    return sha256_of([[asdict(item) for item in items], [size_and_time(root / file) for file in files]])[:16]


def size_and_time(path: Path) -> list[int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def sha256_of(content: list) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
