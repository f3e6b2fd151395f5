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
    while not (folder / LABELS).exists():  # written last
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive(folder))
            except UserError:  # another stage is already rendering them
                context.run.progress(0, context.params.data.train, source, "waiting for the training pictures")
                time.sleep(WAIT_SECONDS)
                continue
            render(context, folder)
    return folder


def render(context: Context, folder: Path) -> None:
    """Render the training pictures; resumes an interrupted rendering."""
    count, work = context.params.data.train, folder / "blocks"
    work.mkdir(exist_ok=True)
    render_split(context, "train", count, work, folder, before=0, total=count)
    shutil.rmtree(work)
