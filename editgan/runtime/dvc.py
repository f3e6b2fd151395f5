"""DVC by its command line: what it is asked, and its answers as JSON."""

import json
import subprocess
import sys
from pathlib import Path


class DvcFailed(RuntimeError):
    """A DVC command failed; the message contains what it said."""


def dvc(*arguments: str, wait: bool = True) -> list[str]:
    """The command line of a DVC command.

    Args:
        wait: wait while another command holds DVC's lock of the checkout; else it fails after some seconds.
    """
    return [sys.executable, "-m", "dvc", *(["--wait-for-lock"] if wait else []), *arguments]


def output(root: Path, *arguments: str, wait: bool = True) -> str:
    """What a DVC command prints in a checkout. Raises DvcFailed: it failed."""
    done = subprocess.run(dvc(*arguments, wait=wait), cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise DvcFailed(f"{root}: `dvc {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout


def status(root: Path, *stages: str, wait: bool = True) -> dict[str, list]:
    """What has changed in each stale stage, of all stages if none is named.

    E.g. {"data": [{"changed deps": {"editgan/data": "modified"}}, {"changed outs": {"outputs/data/val.zip":
    "deleted"}}, "changed command"]}. Raises DvcFailed.
    """
    return json.loads(output(root, "status", "--json", *stages, wait=wait))
