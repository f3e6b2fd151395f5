"""Reads the graph of stages from dvc.yaml, the only place where it is written; needs neither DVC nor torch."""

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
    """One stage of dvc.yaml: paths are relative to the project root, `params` are keys of the params file."""

    name: str
    cmd: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]  # with metrics and plots


def load_graph(path: str | Path = "dvc.yaml") -> dict[str, StageSpec]:
    """The stages by name, in the order of the file, which is an order in which they can run.

    Like DVC, it takes a ${section.key} from params.yaml beside it.

    Raises UserError: the file is missing or no YAML, names a key that the params lack, or has a stage before one whose
    output it needs.
    """
    path = Path(path)
    try:
        text = path.read_text()
        params = yaml.safe_load(path.with_name("params.yaml").read_text()) if TEMPLATE.search(text) else {}
        content = yaml.safe_load(TEMPLATE.sub(lambda found: str(_value(params, found[1])), text))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable: {error}; run this in the project's folder") from None
    except KeyError as error:
        raise UserError(f"{path}: ${{{error.args[0]}}} is no key of params.yaml") from None
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
                raise UserError(f"{path}: stage {stage.name} needs {dep} of {maker}, which stands after it")
    return graph


def ancestors(graph: Mapping[str, StageSpec], name: str) -> set[str]:
    """Every stage whose outputs reach `name`, directly or through others."""
    direct = {maker for dep in graph[name].deps if (maker := _maker(graph, dep)) is not None}
    return direct.union(*(ancestors(graph, parent) for parent in direct))


def input_hash(stage: StageSpec, root: Path, params: Mapping[str, Any]) -> str:
    """Hash of everything a stage's result depends on: the values of its params and the content of its dependencies.

    Args:
        params: the whole params as plain JSON-able values.

    Raises UserError: a dependency is missing; says which stage would make it.
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
    """The stage that makes a file, or the folder that it lies in."""
    within = {dep, *(parent.as_posix() for parent in Path(dep).parents)}
    return next((stage.name for stage in graph.values() if within.intersection(stage.outs)), None)


def _value(params: Mapping[str, Any], key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise KeyError(key)
        value = value[part]
    return value
