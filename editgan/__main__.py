"""`python -m editgan STAGE`: run one stage of the pipeline in this process, as dvc.yaml does."""

import errno
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from editgan.errors import UserError
from editgan.runtime.environment import apply_environment
from editgan.runtime.process import ERROR_FILE, Stopped, die_with_parent, end_children, keep_freed_memory
from editgan.runtime.surroundings import refuse

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the limit on the size of a file (`ulimit -f`) is reached",
}


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def run(
    stage: Annotated[str, typer.Argument(help="A stage of dvc.yaml, e.g. generator.")],
    params: Annotated[Path, typer.Option(help="Params file.")] = Path("params.yaml"),
) -> None:
    """Run one stage of the pipeline."""
    root = Path.cwd()
    die_with_parent()
    keep_freed_memory()
    apply_environment(root)
    try:
        refuse(root)
        from editgan.runtime.stage import run_stage  # imports torch, which takes seconds: after the guards

        run_stage(stage, root=root, params_path=params)
    except UserError as error:
        _refuse(stage, str(error))
    except (EOFError, BrokenPipeError) as error:  # Typer takes these for the end of input or output: no traceback
        raise RuntimeError("a file or a pipe ended early") from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        place = f"{FULL[error.errno]} ({error.filename or root})"
        _refuse(stage, f"{place}; free some space and run again, it will resume")
    except (KeyboardInterrupt, Stopped) as stop:
        end_children()
        by_hand = isinstance(stop, KeyboardInterrupt)
        reason = "interrupted" if by_hand else "ended from outside"
        _fail(f"{stage}: {reason}; run again to resume", 130 if by_hand else 143)


def _refuse(stage: str, error: str) -> NoReturn:
    """End with an error that the user must fix; a flow reads it from the work folder and does not try again."""
    message = f"{stage}: {error}"
    with suppress(OSError):  # no such folder (nobody waits for the file), or the disk is full
        Path("work", stage, ERROR_FILE).write_text(f"{message}\n")
    _fail(message, 1)


def _fail(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    raise typer.Exit(status)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 what the user can put right, 130 interrupted, 143 ended from outside."""
    try:
        app(arguments, prog_name="python -m editgan")
    except SystemExit as ended:
        return ended.code or 0


if __name__ == "__main__":
    sys.exit(main())
