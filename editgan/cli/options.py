"""What the commands have in common: options, how the editor is loaded, and what is printed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from editgan.errors import UserError

if TYPE_CHECKING:
    from editgan.editor.editor import Editor

console, errors = Console(), Console(stderr=True, soft_wrap=True)

Inputs = Annotated[list[Path], typer.Argument(help="Pictures, folders of pictures, or latents written by `embed`.")]
MaybeInputs = Annotated[list[Path] | None, typer.Argument(help="Pictures, folders of pictures, or latents.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Outputs = Annotated[Path, typer.Option(help="Folder with the outputs of the stages.")]
Device = Annotated[str, typer.Option(help="auto (CUDA if available), cpu or cuda.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the first sample, then seed + 1, ...")]
OWN = Path("vectors")
Own = Annotated[Path, typer.Option("--vectors", help="Folder with your own editing vectors.")]
Truncation = Annotated[float, typer.Option(help="Truncation psi; values below 1 move latents towards their mean.")]


def say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def loaded(outputs: Path, device: str, own: Path | None = None) -> "Editor":
    """The editor with the pipeline's vectors and those of folder `own`."""
    from editgan.editor.editor import Editor  # imports torch, which takes seconds

    return Editor.load(outputs, device, vectors=own)


def check_own(folder: Path) -> None:
    """Raises UserError: the folder given with --vectors does not exist; the default one is made when first needed."""
    if folder != OWN and not folder.is_dir():
        raise UserError(f"--vectors {folder}: no such folder")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar: indeterminate until the first call, then with the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
