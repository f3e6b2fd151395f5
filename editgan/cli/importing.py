"""Command `import`: photos, and the files of other programs (generators, vectors, latents, classifiers, labels)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editgan.cli.options import Outputs, say
from editgan.errors import UserError

if TYPE_CHECKING:
    from editgan.data.sources.listing import Rejected

SHOWN = 100  # rejected files on the console
OTHERS = ("generator", "vectors", "latents", "classifiers", "annotations")


def import_(
    kind: Annotated[
        str,
        typer.Argument(
            help="generator, vectors, latents, classifiers or annotations of other programs (docs/import.md); or"
            " photos: lfw, london, fasseg, or pictures (any folder or archive of uncropped photos; docs/data.md). Or"
            " labels: masks drawn with LabelMe, CVAT, Label Studio or any program that writes COCO."
        ),
    ],
    path: Annotated[Path, typer.Argument(help="The file or folder, as distributed.")],
    into: Annotated[
        Path,
        typer.Option(help="generator, vectors, classifiers: runs/NAME. Others: the folder for the result."),
    ],
    labels: Annotated[Path | None, typer.Option(help="CSV of labels, for `lfw` and `pictures`.")] = None,
    side: Annotated[int, typer.Option(min=16, max=1024, help="Side of the aligned pictures, in pixels.")] = 128,
    classes: Annotated[
        Path | None, typer.Option(help="A classes.json that names the labels, for `classifiers` and `annotations`.")
    ] = None,
    parts: Annotated[str, typer.Option(help="Parts that `vectors` change, separated by commas.")] = "",
    left_right: Annotated[
        bool, typer.Option("--left-right", help="For `annotations`: tell left and right ears, eyes and brows apart.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="For `labels`: replace masks that differ.")] = False,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Import what others made: generators and their vectors, labels, or collections of photos."""
    run = into / "outputs"
    if kind == "labels":
        labelled(path, into, overwrite)
        return
    if kind not in OTHERS:
        import_photos_of(kind, path, into, labels, side, outputs)
        return
    from editgan.editor import release
    from editgan.generator.foreign.files import import_generator

    if kind == "generator":
        done = import_generator(path, run)
        for line in done.lines:
            say(line)
        say(f"{done.G_ema}{f' and {done.D.name}' if done.D else ''}; use it with --outputs {run}")
    elif kind == "vectors":
        made = release.import_vectors(path, run, [part.strip() for part in parts.split(",") if part.strip()])
        say(f"vectors in {made[0].parent}: {', '.join(file.stem for file in made)}")
        if not parts:
            say("they name no parts (--parts), so they can be applied but not refined")
    elif kind == "latents":
        say(f"latents in {into}: {len(release.import_latents(path, outputs, into))}")
    elif kind == "classifiers":
        say(f"{release.import_classifiers(path, run, classes)}; the parts are in {run / 'data/classes.json'}")
    else:
        count, named = release.import_labels(path, into, classes, sides=left_right)
        say(f"{count} labelled pictures with {len(named.names)} classes in {into}")


def import_photos_of(collection: str, path: Path, into: Path, labels: Path | None, side: int, outputs: Path) -> None:
    """Detect and align the faces in a collection of photos; writes a folder of training pictures."""
    import torch

    from editgan.assets.load import load_network
    from editgan.data.importing import COLLECTIONS, import_photos
    from editgan.runtime.progress import Progress

    if collection not in COLLECTIONS:
        raise UserError(f"unknown collection {collection!r}; known are {', '.join((*COLLECTIONS, 'labels', *OTHERS))}")
    torch.set_num_threads(1)  # a small network on single pictures is three times slower with more threads
    shown = Progress("import")
    made = import_photos(
        collection,
        path,
        into,
        load_network("blazeface", outputs / "assets"),
        side=side,
        labels=labels,
        report=lambda done, total: shown.update(done, total, "photos"),
    )
    list_rejected(made.rejected, made.notes)
    say(f"{into}: {made.pictures} pictures, {made.masks} with masks; {len(made.rejected)} files rejected (see above)")


def labelled(path: Path, into: Path, overwrite: bool) -> None:
    from editgan.data.annotations.importing import import_labels
    from editgan.runtime.progress import Progress

    shown = Progress("import")
    made = import_labels(
        path, into, overwrite=overwrite, report=lambda done, total: shown.update(done, total, "pictures")
    )
    list_rejected(made.rejected, made.notes)
    say(f"{into}: {made.masks} masks; {len(made.rejected)} files not used (see above)")


def list_rejected(rejected: "Sequence[Rejected]", notes: Sequence[str]) -> None:
    for file, reason in rejected[:SHOWN]:
        say(f"  {file}: {reason}")
    if len(rejected) > SHOWN:
        say(f"  and {len(rejected) - SHOWN} more (in rejected_*.csv beside the pictures)")
    for note in notes:
        say(note)
