"""Reads a params file as one whole mapping. A file in params/ holds only what differs from params.yaml."""

from pathlib import Path
from typing import Any

import yaml

from editgan.errors import UserError


def read_params(path: Path, base: Path | None = None) -> dict[str, Any]:
    """The values of a params file, merged over those of `base`.

    Args:
        base: the params.yaml that the file changes; None: the one beside the folder params/ that the file lies in.
            A file elsewhere is whole.

    Raises:
        UserError: a file is missing or no mapping in YAML, or it has a key that its base lacks.
    """
    if base is None and path.absolute().parent.name == "params":
        base = path.absolute().parent.parent / "params.yaml"
    content = _read(path)
    if base is None or path.resolve() == base.resolve():
        return content
    return _merged(_read(base), content, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such params file (found here: {_params_files()})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of params, found {content!r}")
    return content


def _merged(base: dict[str, Any], changes: dict[str, Any], path: Path, prefix: str = "") -> dict[str, Any]:
    """`base` with `changes`: mappings are merged key by key, any other value, null included, replaces the base's."""
    whole = dict(base)
    for key, value in changes.items():
        if key not in base:
            raise UserError(f"{path}: {prefix}{key}: unknown key (given {value!r}); params.yaml has no such key")
        both = isinstance(value, dict) and isinstance(base[key], dict)
        whole[key] = _merged(base[key], value, path, f"{prefix}{key}.") if both else value
    return whole


def _params_files() -> str:
    found = [*Path().glob("params.yaml"), *sorted(Path().glob("params/*.yaml"))]
    return ", ".join(str(path) for path in found) or "none"
