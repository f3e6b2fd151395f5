"""`python -m editgan STAGE`: run one stage of the pipeline in this process, as dvc.yaml does."""

import argparse
import errno
import sys
from pathlib import Path

from editgan.errors import UserError
from editgan.runtime.environment import apply_environment
from editgan.runtime.process import Stopped, die_with_parent, end_children, keep_freed_memory

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the limit on the size of a file (`ulimit -f`) is reached",
}


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 what the user can put right, 130 interrupted, 143 ended from outside."""
    parser = argparse.ArgumentParser(prog="python -m editgan", description="Run one stage of the pipeline.")
    parser.add_argument("stage", help="a stage of dvc.yaml, e.g. generator")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="params file (default: params.yaml)")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    die_with_parent()
    keep_freed_memory()
    apply_environment(root)
    from editgan.runtime.stage import run_stage  # brings torch, which takes seconds: after the guards

    try:
        run_stage(options.stage, root=root, params_path=options.params)
    except UserError as error:
        return _fail(f"{options.stage}: {error}", 1)
    except OSError as error:
        if error.errno not in FULL:
            raise
        place = f"{FULL[error.errno]} ({error.filename or root})"
        return _fail(f"{options.stage}: {place}; free some space and run again, it will resume", 1)
    except (KeyboardInterrupt, Stopped) as stop:
        end_children()
        by_hand = isinstance(stop, KeyboardInterrupt)
        reason = "interrupted" if by_hand else "ended from outside"
        return _fail(f"{options.stage}: {reason}; run again to resume", 130 if by_hand else 143)
    return 0


def _fail(message: str, status: int) -> int:
    print(message, file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
