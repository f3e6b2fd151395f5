"""The commands for runs: `compare`, `accept` (the baseline of nightly runs), `import` (photos), `train`, `doctor`."""

import functools
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="Commits, branches, DVC experiments, folders of outputs, `.` for the working tree. The first is the"
        " reference. One is compared with the working tree; without any, HEAD is.",
    ),
]


def compare(
    runs: Runs = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show all metrics and parameters that differ, too.")
    ] = False,
) -> None:
    """Compare runs by eight headline metrics, each with its tolerance and a verdict."""
    from editgan.report.comparison import WORKING_TREE, find_run, show

    names = list(runs or ["HEAD"])
    names += [WORKING_TREE] if len(names) == 1 else []
    show([find_run(name, Path.cwd()) for name in names], Console(), everything=everything)


def accept(
    outputs: Annotated[Path, typer.Option(help="Folder with what the stages made.")] = Path("outputs"),
) -> None:
    """Make the benchmark of a folder of outputs the accepted baseline of nightly runs, in baseline/."""
    from editgan.report.regression import accept

    kept = accept(outputs, Path.cwd()).relative_to(Path.cwd())
    Console().print(f"accepted: {outputs / 'benchmark'} is kept in {kept}; commit that folder", highlight=False)


def import_(
    collection: Annotated[
        str, typer.Argument(help="lfw, london, fasseg, or pictures: any folder or archive of uncropped photos.")
    ],
    path: Annotated[Path, typer.Argument(help="The collection as distributed: a folder, .zip, .tar or .tgz.")],
    into: Annotated[Path, typer.Option(help="Folder for source `folder` (docs/data.md); several can share one.")],
    labels: Annotated[Path | None, typer.Option(help="CSV of labels, for `lfw` and `pictures`.")] = None,
    side: Annotated[int, typer.Option(min=16, max=1024, help="Of the pictures to make, in pixels.")] = 128,
    outputs: Annotated[Path, typer.Option(help="Folder with what the stages made.")] = Path("outputs"),
) -> None:
    """Find and align the faces of a collection of photos, and make a folder of pictures to learn from."""
    import torch

    from editgan.assets.load import load_network
    from editgan.data.importing import COLLECTIONS, import_photos
    from editgan.errors import UserError
    from editgan.runtime.progress import Progress

    if collection not in COLLECTIONS:
        raise UserError(f"unknown collection {collection!r}; known are {', '.join(COLLECTIONS)}")
    torch.set_num_threads(1)  # on small networks and one picture at a time, more make it three times slower
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
    say = functools.partial(Console().print, markup=False, highlight=False, soft_wrap=True)
    for file, reason in made.rejected:
        say(f"  {file}: {reason}")
    say(f"{into}: {made.pictures} pictures, {made.masks} with masks; {len(made.rejected)} files not used (above)")


train = typer.Typer(help="Look at a training of the generator.", no_args_is_help=True, rich_markup_mode=None)


@train.command("status")
def train_status() -> None:
    """How far trainings of the generator are, here and in runs/: kimg, images a second, time to go, figures."""
    from editgan.generator.status import statuses

    text = "\n".join(statuses(Path.cwd())) or "no training of a generator here"
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without losing anything.")] = False,
) -> None:
    """Find what crashes, full disks and foreign versions have left here; exit status 1 while something is left."""
    from editgan.cli.doctor import treat

    def say(text: str) -> None:
        Console().print(text, markup=False, highlight=False, soft_wrap=True)

    raise typer.Exit(treat(Path.cwd(), fix=fix, say=say) > 0)
