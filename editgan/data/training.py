"""The training pictures: 20,000 heads or cars, rendered only when a stage requests them.

The demo does not need them, since all networks are shipped. They are stored in the project's cache under a hash of
their recipe and shared by all checkouts of the project.
"""

import contextlib
import dataclasses
import hashlib
import shutil
import time
from pathlib import Path

from editgan.data.blocks import Context
from editgan.data.params import RENDERED
from editgan.data.pictures import read_pictures
from editgan.data.rendering import render_split
from editgan.errors import UserError
from editgan.runtime.environment import home_project
from editgan.runtime.process import exclusive

IMAGES, LABELS = "train.zip", "train_labels.zip"
CHANGED, PAIRS = "changed.zip", 6000  # maximum number of training pictures that are rendered a second time
WAIT_SECONDS = 2.0


def training_folder(context: Context) -> Path:
    """Folder with train.zip (pictures) and train_labels.zip (their masks and attributes); rendered if missing.

    Raises:
        UserError: stage data has not run.
    """
    data = context.input("data")
    if (data / IMAGES).exists() or (data / LABELS).exists():
        return data
    recipe = data / "recipe.json"
    if not recipe.exists():
        raise UserError(f"{recipe}: missing; run stage data first")
    source = context.params.data.source
    if source not in RENDERED:
        print(f"{data / LABELS}: missing; the pictures are read again", flush=True)
        for block in read_pictures(dataclasses.replace(context, name="data", out=data)):
            block.unlink()
        return data
    made_of = recipe.read_bytes() + (data / "labels.json").read_bytes()
    folder = home_project(context.root) / ".cache" / "training" / hashlib.sha256(made_of).hexdigest()[:16]
    render_once(context, "train", context.params.data.train, folder / LABELS)
    return folder


def changed_pictures(context: Context) -> Path | None:
    """The first training pictures again, with the attribute of the benchmark changed and nothing else.

    Where an attribute goes with others, as large wheels with large cars, only such pairs show a classifier what to look
    at. None: the source has no such pictures (heads smile in the training pictures, and a folder cannot be rendered).
    """
    source = context.params.data.source
    if source not in RENDERED or source == "heads":
        return None
    path = training_folder(context) / CHANGED
    render_once(context, "changed", min(PAIRS, context.params.data.train), path)
    return path


def render_once(context: Context, split: str, count: int, path: Path) -> None:
    """Render a split, whose last file is `path`, unless that exists."""
    folder, source = path.parent, context.params.data.source
    while not path.exists():
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive(folder))
            except UserError:  # another stage is already rendering them
                context.run.progress(0, count, source, "waiting for the training pictures")
                time.sleep(WAIT_SECONDS)
                continue
            render(context, folder, split, count)


def render(context: Context, folder: Path, split: str, count: int) -> None:
    """Render training pictures; resumes an interrupted rendering."""
    work = folder / "blocks"
    work.mkdir(exist_ok=True)
    render_split(context, split, count, work, folder, before=0, total=count)
    shutil.rmtree(work)
