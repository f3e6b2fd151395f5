"""Reads the graph of stages from dvc.yaml, without DVC and torch."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from editgan.errors import UserError

TEMPLATE = re.compile(r"\$\{([\w.]+)\}")
IGNORED_PARTS = {"__pycache__"}  # as in .dvcignore


@dataclass(frozen=True)
class StageSpec:
    """One stage of dvc.yaml. Paths are relative to the project root; `params` are keys of the params file."""

    name: str
    cmd: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]  # with metrics and plots


def load_graph(path: str | Path = "dvc.yaml") -> dict[str, StageSpec]:
    """The stages by name, in the order of the file, in which they can run.

    As in DVC, ${section.key} is a value of the params.yaml beside the file.

    Raises UserError: the file is missing or not YAML, a key is not in params.yaml, or a stage is listed before one
    whose output it needs.
    """
    path = Path(path)
    try:
        text = path.read_text()
        params = yaml.safe_load(path.with_name("params.yaml").read_text()) if TEMPLATE.search(text) else {}
        content = yaml.safe_load(TEMPLATE.sub(lambda found: str(_value(params, found[1])), text))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable: {error}; run this in the project's folder") from None
    except KeyError as error:
        raise UserError(f"{path}: ${{{error.args[0]}}} is not a key of params.yaml") from None
    graph = {}
    for name, entry in content["stages"].items():
        # DVC writes an item with options as a mapping of one key.
        deps, params, outs, metrics, plots = (
            tuple(item if isinstance(item, str) else next(iter(item)) for item in entry.get(kind, ()))
            for kind in ("deps", "params", "outs", "metrics", "plots")
        )
        graph[name] = StageSpec(name, entry["cmd"], deps, params, outs + metrics + plots)
    names = list(graph)
    for place, stage in enumerate(graph.values()):
        for dep in stage.deps:
            maker = _maker(graph, dep)
            if maker in names[place:]:
                raise UserError(f"{path}: stage {stage.name} needs {dep} of {maker}, which is listed after it")
    return graph


def ancestors(graph: Mapping[str, StageSpec], name: str) -> set[str]:
    """All stages whose outputs `name` needs, directly or indirectly."""
    direct = {maker for dep in graph[name].deps if (maker := _maker(graph, dep)) is not None}
    return direct.union(*(ancestors(graph, parent) for parent in direct))


def input_hash(stage: StageSpec, root: Path, params: Mapping[str, Any]) -> str:
    """Hash of all inputs of a stage: values of its params and content of its dependencies.

    Args:
        params: all params as plain JSON values.

    Raises UserError: a dependency is missing.
    """
    record = {
        "stage": stage.name,
        "params": {key: _value(params, key) for key in stage.params},
        "deps": {dep: content_hash(root / dep) for dep in stage.deps},
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def content_hash(path: Path) -> str:
    """MD5 of a file, or of the sorted names and MD5s of the files in a folder.

    Raises UserError: there is no such file or folder.
    """
    if not path.exists():
        raise UserError(f"{path}: missing; make it with `dvc repro {path}` or fetch it with `dvc pull {path}`")
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file() and not IGNORED_PARTS.intersection(file.parts))
    listing = [[file.relative_to(path).as_posix(), content_hash(file)] for file in files]
    return hashlib.md5(json.dumps(listing).encode()).hexdigest()


def _maker(graph: Mapping[str, StageSpec], dep: str) -> str | None:
    """The stage that makes a file or a folder that contains it."""
    within = {dep, *(parent.as_posix() for parent in Path(dep).parents)}
    return next((stage.name for stage in graph.values() if within.intersection(stage.outs)), None)


def _value(params: Mapping[str, Any], key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise KeyError(key)
        value = value[part]
    return value
