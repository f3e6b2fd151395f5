"""Commands for runs: `compare`, `accept` (baseline of nightly runs), `import` (photos), `train`, `doctor`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from editgan.cli.options import Outputs, say

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
        str, typer.Argument(help="lfw, london, fasseg, or pictures: any folder or archive of uncropped photos.")
    ],
    path: Annotated[Path, typer.Argument(help="The collection as distributed: a folder, .zip, .tar or .tgz.")],
    into: Annotated[Path, typer.Option(help="Folder for source `folder` (docs/data.md); several can share one.")],
    labels: Annotated[Path | None, typer.Option(help="CSV of labels, for `lfw` and `pictures`.")] = None,
    side: Annotated[int, typer.Option(min=16, max=1024, help="Side of the aligned pictures, in pixels.")] = 128,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Detect and align the faces in a collection of photos; writes a folder of training pictures."""
    import torch

    from editgan.assets.load import load_network
    from editgan.data.importing import COLLECTIONS, import_photos
    from editgan.errors import UserError
    from editgan.runtime.progress import Progress

    if collection not in COLLECTIONS:
        raise UserError(f"unknown collection {collection!r}; known are {', '.join(COLLECTIONS)}")
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
    for file, reason in made.rejected[:SHOWN]:
        say(f"  {file}: {reason}")
    if len(made.rejected) > SHOWN:
        say(f"  and {len(made.rejected) - SHOWN} more: {into}/rejected_*.csv lists all")
    for note in made.notes:
        say(note)
    say(f"{into}: {made.pictures} pictures, {made.masks} with masks; {len(made.rejected)} files rejected (see above)")


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
