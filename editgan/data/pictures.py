"""Pictures of a source (a folder or CelebA-HQ): read, checked, assigned to splits."""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from editgan.data.archive import save_classes
from editgan.data.assign import COUNTED, choose, people_of
from editgan.data.blocks import Context, make_blocks, write_split
from editgan.data.duplicates import copies_csv, find_copies
from editgan.data.protocol import FILE, SMILE, read_protocol
from editgan.data.reading import VERSION, read_one
from editgan.data.sources import celeba_hq, folder
from editgan.data.sources.listing import Item, Rejected, rejected_csv, repeated
from editgan.data.splits import SPLITS
from editgan.errors import UserError
from editgan.runtime.environment import home_project
from editgan.runtime.process import die_with_stage
from editgan.weights import write_bytes, write_json

SOURCES = {"folder": folder.list_pictures, "celeba_hq": celeba_hq.list_pictures}
COPIES = "copies.csv"  # files that show the same photograph; not an output either
SHOWN = 50  # groups of copies on the console
PARTITION_ORDER = ("test", "val", "train", None)
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
    root = celeba_hq.root_of(root) if params.source == "celeba_hq" else folder.root_of(root)
    protocol = read_protocol(root) if params.source == "folder" else None
    items, unusable, classes, notes = SOURCES[params.source](root)
    if protocol is not None and not set(protocol.parts) <= set(classes.names):
        unknown = next(part for part in protocol.parts if part not in classes.names)
        raise UserError(f"{root / FILE}: unknown part {unknown!r}; known are {', '.join(classes.names)}")
    print("\n".join(notes), end="\n" if notes else "", flush=True)
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
    usable = [index for index, record in enumerate(made.records) if "reason" not in record]
    copies = find_copies(
        [made.records[index]["digest"] for index in usable],
        [made.records[index]["hash"] for index in usable],
        lambda places: made.read("img", [usable[place] for place in places]),
    )
    copies = [[usable[place] for place in group] for group in copies]
    report_copies(context, [[items[index].file for index in group] for group in copies])
    torn = outside_partition(items, copies)
    unusable += [Rejected(items[index].file, reason) for index, reason in torn.items()]
    rejected = sorted(set(unusable))
    write_bytes(context.out / REJECTED, rejected_csv(rejected))
    usable = [index for index in usable if index not in torn]
    used = [read[index] for index in usable]
    place_of = {index: place for place, index in enumerate(usable)}
    people = people_of(
        [item for item, _ in used], [[place_of[one] for one in group if one in place_of] for group in copies]
    )
    chosen = choose(used, people, params, seed, rejected, protocol or SMILE)
    if rejected:
        print(f"rejected files ({context.out / REJECTED}): {len(rejected)}")
        print("\n".join(f"  {file}: {reason}" for file, reason in rejected), flush=True)

    for line in repeated((item.file, note) for item, record in used for note in record.get("notes", ())):
        print(line, flush=True)
    save_classes(context.out / "classes.json", classes)
    numbers = {person: number for number, person in enumerate(sorted(set(people)))}
    metrics: dict = {"rejected": len(rejected), "people": len(numbers), "copies": sum(map(len, copies)) - len(copies)}
    for split in SPLITS:
        attributes = [
            {**used[place][1]["attributes"], "identity": numbers[people[place]], "file": used[place][0].file}
            for place in chosen[split]
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
    if protocol is not None:
        recipe["benchmark"] = protocol.model_dump(mode="json")
    masks = [[item.file, [label for _, label in item.masks], record["mask_digest"]] for item, record in used]
    labels = {"content": sha256_of(masks), "reader": VERSION, "classes": list(classes.names)}
    write_json(context.out / "recipe.json", recipe)
    write_json(context.out / "labels.json", labels)
    write_json(context.out / "metrics.json", metrics)
    context.run.log_file(context.out / REJECTED)
    return made.paths


def report_copies(context: Context, groups: Sequence[Sequence[str]]) -> None:
    """Write and print the files that show the same photograph."""
    (context.out / COPIES).unlink(missing_ok=True)
    if groups:
        write_bytes(context.out / COPIES, copies_csv(groups))
        context.run.log_file(context.out / COPIES)
        print(f"copies of one photograph, kept in one split ({context.out / COPIES}): {len(groups)} groups")
        print("\n".join(f"  {', '.join(group)}" for group in groups[:SHOWN]), flush=True)


def outside_partition(items: Sequence[Item], copies: Sequence[Sequence[int]]) -> dict[int, str]:
    """Copies to leave out, with the reason: those outside the partition of the source that must stay unseen."""
    left_out = {}
    for group in copies:
        kept = min(group, key=lambda index: (PARTITION_ORDER.index(items[index].partition), index))
        for index in group:
            if items[index].partition != items[kept].partition:
                same = f"is a copy of {items[kept].file}, which is in the partition {items[kept].partition}"
                left_out[index] = same
    return left_out


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
