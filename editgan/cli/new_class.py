"""Command `new-class`: the params and edits of a run on your own class of pictures, as files to change."""

import re
from pathlib import Path
from typing import Annotated

import typer
import yaml
from PIL import Image

from editgan.cli.options import say
from editgan.errors import UserError

NAME = re.compile(r"[a-z][a-z0-9_-]*")
LEAST_PICTURES = 350  # fewer do not fill the splits that the stages need
LEAST_MASKS = 4
LABELLED = 30  # maximum number of masks that the segmentation learns from; further ones are for test and validation
SHARES = {"test": 0.1, "val": 0.1, "reference": 0.16}  # of the pictures; the rest is for training
QUANTILES = (0.4, 0.7)  # of the attribute: up to the first a picture is without it, from the second on it has it
GROWTH = 1.15
STAGES = ("assets", "data", "generator", "samples", "encoder", "segmentation", "editing")  # need no attribute


def new_class(
    name: Annotated[str, typer.Argument(help="Name of the class and of its run, e.g. lizards.")],
    pictures: Annotated[
        Path, typer.Option(help="Folder with images/, masks/ and classes.json, as `import labels` writes it.")
    ],
    attribute: Annotated[
        str, typer.Option(help="Column of attributes.csv with a number per picture: what the benchmark raises.")
    ] = "",
    parts: Annotated[str, typer.Option(help="Parts that show the attribute, separated by commas.")] = "",
) -> None:
    """Write params/NAME.yaml and params/edits/NAME.yaml for your own pictures; nothing is overwritten.

    With --attribute also benchmark.yaml in the folder of the pictures, so that the benchmark runs, too.
    """
    from editgan.data.protocol import FILE
    from editgan.data.sources import folder

    if not NAME.fullmatch(name):
        raise UserError(f"{name!r}: a name has lowercase letters, digits, - and _, and begins with a letter")
    if not Path("params.yaml").is_file():
        raise UserError("params.yaml: not found here; run this command in the project's folder")
    if not pictures.is_dir():
        raise UserError(f"{pictures}: no such folder")
    if bool(attribute) is not bool(parts):
        raise UserError("give --attribute and --parts together: a number of each picture, and the parts that show it")
    root = folder.root_of(pictures)
    params, edits, benchmark = Path(f"params/{name}.yaml"), Path(f"params/edits/{name}.yaml"), root / FILE
    for path in (params, edits, *((benchmark,) if attribute else ())):
        if path.exists():
            raise UserError(f"{path}: exists and is kept; choose another name, or move it away")
    items, rejected, classes, notes = folder.list_pictures(root)
    masked = sum(bool(item.masks) for item in items)
    if masked < LEAST_MASKS:
        raise UserError(
            f"{root}: {masked} pictures have masks, at least {LEAST_MASKS} are needed; draw them in LabelMe and run"
            f" `editgan import labels FOLDER --into {pictures}`"
        )
    if len(items) < LEAST_PICTURES:
        raise UserError(f"{root}: {len(items)} pictures, at least {LEAST_PICTURES} are needed")
    require_square(root, [item.file for item in items])
    shown = [part.strip() for part in parts.split(",") if part.strip()] or classes.names[1:4]
    unknown = [part for part in shown if part not in classes.names]
    if unknown:
        raise UserError(f"--parts: unknown part {unknown[0]!r}; known are {', '.join(classes.names)}")
    vectors = [f"bigger_{plain(part)}" for part in shown]
    if attribute:
        vectors = [f"more_{plain(attribute)}", *vectors]
    written = {
        params: params_text(name, pictures, len(items), min(masked, LABELLED), vectors[0], bool(attribute)),
        edits: edits_text(name, vectors, shown, bool(attribute)),
    }
    if attribute:
        written[benchmark] = benchmark_text(root, attribute, shown, [item.attributes for item in items])
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for line in notes:
        say(line)
    say(f"{len(items)} pictures, {masked} with masks of {len(classes.names)} classes; {len(rejected)} files not usable")
    say(f"wrote {', '.join(map(str, written))}: examples, read and change them")
    stages = "" if attribute else f" --stages {' '.join(STAGES)}"
    say("next:")
    say(f"  python -m flows.pipeline --params {params} --stages assets data")
    say(f"  python -m flows.pipeline --params {params}{stages}")
    say(f"  editgan sample --outputs runs/{name}/outputs")
    if not attribute:
        say(f"the benchmark needs a number of each picture: {root / folder.TABLE}, then --attribute and --parts")


def require_square(root: Path, files: list[str]) -> None:
    """Raises UserError: a picture is not square. Unreadable files are left to stage data, which names them."""
    other: dict[str, tuple[int, int]] = {}
    for file in files:
        try:
            with Image.open(root / file) as picture:
                if picture.width != picture.height:
                    other[file] = picture.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    if other:
        file, (width, height) = next(iter(other.items()))
        raise UserError(
            f"{root}: {len(other)} of {len(files)} pictures are not square, e.g. {file} is {width}x{height}; crop them"
            " before you draw masks"
        )


def plain(text: str) -> str:
    """A name as the names of edits are written."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "part"


PARAMS = """\
# Your own class {name}: {count} pictures; the masks of {masked} are learned from. This file contains the values that
# differ from params.yaml, which explains every key. With few pictures the generator learns with adaptive augmentation
# (ada_target, which needs the logistic loss). Train longer (generator.kimg) for better pictures, or start from the
# networks of another run (generator.start_from). The edits are in params/edits/{name}.yaml.

"""
EDITS = """\
# The edits of the run {name}; they replace those of edits.yaml, which explains keys and operations. These are examples
# to change. Rules on the columns of attributes.csv choose the pictures that edits are learned from:
#   pictures: {{learn_from: [indoors = 0], least: [yaw]}}

"""
BENCHMARK = """\
# The benchmark of these pictures: test pictures with at most `low` of the attribute are edited to have more of it.
#
#   attribute   column of attributes.csv
#   parts       the parts that the edits may change
#   low, high   a picture is without the attribute up to the first, and has it from the second on; both are quantiles
#   growth      an edit counts as success by the parser if the parts cover this many times the pixels of the input
#   conditions  numbers of every picture that the conditional direction of InterFaceGAN leaves unchanged (none: [])

"""


def dumped(content: dict) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)


def params_text(name: str, pictures: Path, count: int, masked: int, vector: str, benchmark: bool) -> str:
    """params/NAME.yaml: what differs from params.yaml for so many pictures."""
    sizes = {split: max(8, round(share * count)) for split, share in SHARES.items()}
    train = count - masked - sum(sizes.values())
    data = {"source": "folder", "folder": str(pictures), "train": train, "pool": masked, "few_shot": masked, **sizes}
    shown = min(100, sizes["val"])
    content = {
        "data": data,
        "generator": {"kimg": 400, "loss": "logistic", "ada_target": 0.6, "kid_images": min(1000, train)},
        "samples": {"images": train // 2, "path_pairs": 500},
        "encoder": {"val_images": shown},
        "segmentation": {"labelled_images": masked},
        "interfacegan": {"condition_heads": max(200, min(2000, train))},
        "maskgan": {"learn_from": "pool" if benchmark else "none", "val_images": shown},
        "scoring": {"vector": vector, "plus_vector": f"{vector}_mean"},
        "benchmark": {"grid_heads": min(12, sizes["test"])},
        "report": {"heads": min(6, sizes["test"])},
    }
    head = PARAMS.format(name=name, count=count, masked=masked)
    return head + "\n".join(dumped({section: values}) for section, values in content.items())


def edits_text(name: str, vectors: list[str], parts: list[str], benchmark: bool) -> str:
    """params/edits/NAME.yaml: an edit for each part, and first one of all of them for the benchmark."""
    groups = ([parts] if benchmark else []) + [[part] for part in parts]
    entries = [
        {
            vector: {
                "about": f"{' and '.join(group)} a quarter larger; negative strengths make them smaller",
                "region": group,
                "mask": [{"move": {"parts": [*group], "scale": [1.25, 1.25], "together": len(group) > 1}}],
            }
        }
        for vector, group in zip(vectors, groups, strict=True)
    ]
    return EDITS.format(name=name) + "\n".join(map(dumped, entries))


def benchmark_text(root: Path, attribute: str, parts: list[str], rows: list[dict]) -> str:
    """benchmark.yaml. Raises UserError: too few pictures have the attribute, or it does not vary."""
    from editgan.data.protocol import Protocol

    known = sorted(float(row[attribute]) for row in rows if isinstance(row.get(attribute), int | float))
    low, high = (known[round(share * (len(known) - 1))] if known else 0.0 for share in QUANTILES)
    if low == high and known:
        low, high = known[0], known[-1]
    if len(known) < LEAST_PICTURES or low == high:
        raise UserError(
            f"{root}: {len(known)} pictures have a number {attribute!r} in attributes.csv; at least {LEAST_PICTURES}"
            " with different values are needed"
        )
    numbers = [name for name in rows[0] if all(isinstance(row.get(name), int | float) for row in rows)]
    varying = [name for name in numbers if name != attribute and len({row[name] for row in rows}) > 1]
    content = dict(attribute=attribute, parts=parts, low=low, high=high, growth=GROWTH, conditions=varying[:3])
    return BENCHMARK + dumped(Protocol.model_validate(content).model_dump(mode="json"))
