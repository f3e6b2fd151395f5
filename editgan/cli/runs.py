"""Commands for runs: `compare`, `accept` (baseline of nightly runs), `train`, `doctor`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from editgan.cli.options import Device, Outputs, loaded, progress, say

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


train = typer.Typer(
    help="Inspect generator training; train a segmentation.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@train.command("status")
def train_status() -> None:
    """Show the progress of generator training, here and in runs/: kimg, images per second, time left, metrics."""
    from editgan.generator.status import statuses

    say("\n".join(statuses(Path.cwd())) or "no generator training found here")


@train.command("segmentation")
def train_segmentation(
    labels: Annotated[Path, typer.Argument(help="Folder with images/, masks/ and classes.json (docs/import.md).")],
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Train the segmentation of an imported generator on a few labelled pictures; 16 are usual."""
    from editgan.editor.fewshot import learn_segmentation

    editor = loaded(outputs, device)
    with progress("embedding and training") as advance:
        path, learned = learn_segmentation(editor, labels, outputs, embedding=advance, training=advance)
    say(f"{path}: {learned:.0%} of the labelled pixels are segmented as labelled")


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair whatever can be repaired without losing data.")] = False,
) -> None:
    """Find damage from crashes, full disks and version changes; exit status 1 if problems remain."""
    from editgan.cli.doctor import treat

    raise typer.Exit(treat(Path.cwd(), fix=fix, say=say) > 0)
