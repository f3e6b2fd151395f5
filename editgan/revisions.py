"""What a revision of the project left behind: a folder, a commit or DVC experiment, or a run in the MLflow record.

Of a commit, metrics and parameters come out of git, other outputs out of DVC's cache or the store in the repository.
"""

import ast
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from editgan.errors import UserError
from editgan.record import LATEST, RecordedRun, recorded_runs

WORKING_TREE = "."


@dataclass(frozen=True)
class Revision:
    """One side of a comparison."""

    name: str
    about: str
    params: Mapping[str, str]  # by dotted key; empty where they are not known
    read: Callable[[str], bytes | None]  # path below outputs/ -> content, None where it is not to be had
    names: Callable[[str], list[str]]  # folder below outputs/ -> names of its files


def find_revision(name: str, root: Path) -> Revision:
    """What a name means: a folder with outputs in it, else a commit or experiment, else an MLflow run.

    Args:
        name: a folder of outputs or one that holds `outputs`; anything that git takes for a commit; the name of a DVC
            experiment; the id of a run or its first characters, or `latest`.
    Raises:
        UserError: it is none of these.
    """
    folder = root / name
    for outputs in (folder / "outputs", folder):
        if any(outputs.glob("*/metrics.json")):
            return _of_folder(name, outputs)
    if name != LATEST and (commit := _commit(name, root)):
        return _of_commit(name, commit, root)
    if recorded := recorded_runs(root, name):
        return _of_run(name, *recorded)
    held = "a folder without outputs in it" if folder.is_dir() else "no folder of outputs"
    experiments = ", ".join(sorted(_experiments(root))) or "none"
    raise UserError(
        f"{name}: {held}, no git revision or DVC experiment (experiments here: {experiments}), and no run in the MLflow"
        f" record (`{LATEST}` is the newest pipeline)"
    )


def _of_folder(name: str, outputs: Path) -> Revision:
    def read(path: str) -> bytes | None:
        return (outputs / path).read_bytes() if (outputs / path).is_file() else None

    def names(folder: str) -> list[str]:
        return sorted(path.name for path in (outputs / folder).glob("*") if path.is_file())

    params = outputs.parent / "params.yaml" if outputs.name == "outputs" else outputs / "params.yaml"
    label, about = (name, f"folder {outputs}")
    if name == WORKING_TREE:
        label = about = "working tree"
    return Revision(label, about, _flat(params.read_text()) if params.is_file() else {}, read, names)


def _of_commit(name: str, commit: str, root: Path) -> Revision:
    from dvc.api import DVCFileSystem  # takes a second
    from dvc_data.index import DataIndexDirError

    files = DVCFileSystem(repo=str(root), rev=commit)

    def read(path: str) -> bytes | None:
        try:
            return files.read_bytes(f"outputs/{path}")
        except (OSError, DataIndexDirError):  # neither in the cache nor in the store
            return None

    def names(folder: str) -> list[str]:
        try:
            return sorted(Path(path).name for path in files.ls(f"outputs/{folder}", detail=False))
        except (OSError, DataIndexDirError):
            return []

    params = _git(root, "show", f"{commit}:params.yaml")
    return Revision(name, f"commit {commit[:12]}", _flat(params) if params else {}, read, names)


def _of_run(name: str, run_id: str, stages: dict[str, RecordedRun]) -> Revision:
    """Pictures stand among a run's artifacts as images/NAME.png, other files as in the folder of the stage."""

    def read(path: str) -> bytes | None:
        stage, _, below = path.partition("/")
        if stage not in stages:
            return None
        if below.endswith(".png"):
            return stages[stage].read(f"images/{Path(below).name}")
        content = stages[stage].read(below)
        if content is None and below == "metrics.json" and stages[stage].metrics:
            return json.dumps(stages[stage].metrics).encode()
        return content

    def names(folder: str) -> list[str]:
        stage, _, below = folder.partition("/")
        return stages[stage].names(below if below == "curves" else "images") if stage in stages else []

    params: dict[str, str] = {}
    for run in stages.values():
        params |= {key: _plain(value) for key, value in run.params.items()}
    return Revision(name, f"MLflow run {run_id}", params, read, names)


def _flat(text: str) -> dict[str, str]:
    """A params file as one level of dotted keys."""
    try:
        return {key: _plain(value) for key, value in flat_keys(yaml.safe_load(text)).items()}
    except yaml.YAMLError:
        return {}


def _plain(value: Any) -> str:
    """One spelling of a parameter, whether it comes out of a params file or, as text, out of a run's record."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def flat_keys(nested: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys."""
    if not isinstance(nested, dict):
        return {prefix.removesuffix("."): nested}
    return {key: value for name, inner in nested.items() for key, value in flat_keys(inner, f"{prefix}{name}.").items()}


def _commit(name: str, root: Path) -> str | None:
    for wanted in (name, _experiments(root).get(name)):
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{wanted}^{{commit}}")
        if wanted and (commit := _git(root, *asked)):
            return commit.strip()
    return None


def _experiments(root: Path) -> dict[str, str]:
    """Names of DVC's experiments and the references of their commits, of one name the newest."""
    listed = _git(root, "for-each-ref", "--sort=committerdate", "--format=%(refname)", "refs/exps") or ""
    parts = {reference: reference.split("/") for reference in listed.split()}
    return {split[4]: reference for reference, split in parts.items() if len(split) == 5}  # refs/exps/ab/cdef.../NAME


def _git(root: Path, *arguments: str) -> str | None:
    """What git says, None where it fails."""
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None
