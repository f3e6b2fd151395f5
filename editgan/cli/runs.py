"""Commands for runs: `compare`, `accept` (baseline of nightly runs), `import` (photos, labels), `train`, `doctor`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from editgan.cli.options import Outputs, say

if TYPE_CHECKING:
    from editgan.data.sources.listing import Rejected

SHOWN = 100  # rejected files on the console
Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="Commits, branches, DVC experiments, folders of outputs, or `.` for the working tree. The first one is the"
        " reference. A single run is compared with the working tree; the default is HEAD.",
    ),
]


def compare(
    runs: Runs = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also show all other metrics and parameters that differ.")
    ] = False,
) -> None:
    """Compare runs by eight headline metrics, each with a tolerance and a verdict."""
    from editgan.report.comparison import WORKING_TREE, find_run, show

    names = list(runs or ["HEAD"])
    names += [WORKING_TREE] if len(names) == 1 else []
    show([find_run(name, Path.cwd()) for name in names], Console(), everything=everything)


def accept(
    reason: Annotated[str, typer.Option(help="Why the metrics may change; kept in reason.txt.")],
    outputs: Outputs = Path("outputs"),
) -> None:
    """Accept benchmark and samples of a folder of outputs as the baseline of nightly runs, in baseline/."""
    from editgan.report.nightly import accept

    kept = accept(outputs, Path.cwd(), reason=reason).relative_to(Path.cwd())
    say(f"accepted: metrics of {outputs} copied to {kept}; commit that folder")


def import_(
    collection: Annotated[
        str,
        typer.Argument(
            help="lfw, london, fasseg, or pictures: any folder or archive of uncropped photos. Or labels: masks drawn"
            " with LabelMe, CVAT, Label Studio or any program that writes COCO."
        ),
    ],
    path: Annotated[Path, typer.Argument(help="The collection as distributed: a folder, .zip, .tar or .tgz.")],
    into: Annotated[Path, typer.Option(help="Folder for source `folder` (docs/data.md); several can share one.")],
    labels: Annotated[Path | None, typer.Option(help="CSV of labels, for `lfw` and `pictures`.")] = None,
    side: Annotated[int, typer.Option(min=16, max=1024, help="Side of the aligned pictures, in pixels.")] = 128,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="For `labels`: replace masks that differ.")] = False,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Detect and align the faces in a collection of photos; writes a folder of training pictures.

    `editgan import labels LABELS --into FOLDER` writes FOLDER/masks for the pictures in FOLDER/images.
    """
    if collection == "labels":
        labelled(path, into, overwrite)
        return
    import torch

    from editgan.assets.load import load_network
    from editgan.data.importing import COLLECTIONS, import_photos
    from editgan.errors import UserError
    from editgan.runtime.progress import Progress

    if collection not in COLLECTIONS:
        raise UserError(f"unknown collection {collection!r}; known are {', '.join(COLLECTIONS)}, labels")
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
    say(f"{into}: {made.masks} masks; {len(made.rejected)} files without use (see above)")


def list_rejected(rejected: "Sequence[Rejected]", notes: Sequence[str]) -> None:
    for file, reason in rejected[:SHOWN]:
        say(f"  {file}: {reason}")
    if len(rejected) > SHOWN:
        say(f"  and {len(rejected) - SHOWN} more (in rejected_*.csv beside the pictures)")
    for note in notes:
        say(note)


train = typer.Typer(help="Inspect generator training.", no_args_is_help=True, rich_markup_mode=None)


@train.command("status")
def train_status() -> None:
    """Show the progress of generator training, here and in runs/: kimg, images per second, time left, metrics."""
    from editgan.generator.status import statuses

    say("\n".join(statuses(Path.cwd())) or "no generator training found here")


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair whatever can be repaired without losing data.")] = False,
) -> None:
    """Find damage from crashes, full disks and version changes; exit status 1 if problems remain."""
    from editgan.cli.doctor import treat

    raise typer.Exit(treat(Path.cwd(), fix=fix, say=say) > 0)
