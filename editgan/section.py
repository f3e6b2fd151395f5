"""Params files: the base class of their sections; reading and checking.

A file in params/ contains only the values that differ from params.yaml.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from editgan.errors import UserError


class Section(BaseModel):
    """A frozen, typed section of `params.yaml`, where each value is described. An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)


def read_params(path: Path, base: Path | None = None) -> dict[str, Any]:
    """The values of a params file, merged over those of `base`.

    Args:
        base: the params.yaml that the file changes. None: for a file in params/, the one beside that folder; other
            files must be complete.

    Raises UserError: a file is missing or not a YAML mapping, or it has a key that its base lacks.
    """
    if base is None and path.absolute().parent.name == "params":
        base = path.absolute().parent.parent / "params.yaml"
    if not path.exists():
        found = [*Path().glob("params.yaml"), *sorted(Path().glob("params/*.yaml"))]
        raise UserError(f"{path}: no such params file (found here: {', '.join(map(str, found)) or 'none'})")
    content = read_yaml(path)
    if base is None or path.resolve() == base.resolve():
        return content
    return _merged(read_yaml(base), content, path)


def checked(section: type[SectionT], content: dict[str, Any], path: Path) -> SectionT:
    """The values of a file as a section.

    Raises UserError: a key is unknown or missing, or a value is out of range; the message lists every fault with its
    key and value.
    """
    try:
        return section.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}:\n" + "\n".join(_fault(detail) for detail in error.errors())) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError: it is missing, not YAML, or not a mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping, found {content!r}")
    return content


def flat_keys(nested: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys."""
    if not isinstance(nested, dict):
        return {prefix.removesuffix("."): nested}
    return {key: value for name, inner in nested.items() for key, value in flat_keys(inner, f"{prefix}{name}.").items()}


def _merged(base: dict[str, Any], changes: dict[str, Any], path: Path, prefix: str = "") -> dict[str, Any]:
    """`base` with `changes`: mappings are merged key by key; any other value, also null, replaces that of the base."""
    whole = dict(base)
    for key, value in changes.items():
        if key not in base:
            raise UserError(f"{path}: {prefix}{key}: unknown key (given {value!r}); params.yaml has no such key")
        both = isinstance(value, dict) and isinstance(base[key], dict)
        whole[key] = _merged(base[key], value, path, f"{prefix}{key}.") if both else value
    return whole


def _fault(detail: dict[str, Any]) -> str:
    """One line for an error of pydantic: the dotted key, the error and the given value."""
    key = ".".join(str(part) for part in detail["loc"]) or "(the whole file)"
    if detail["type"] == "extra_forbidden":
        return f"  {key}: unknown key (given {detail['input']!r}); remove it or correct its spelling"
    if detail["type"] == "missing":
        return f"  {key}: missing"
    return f"  {key}: {detail['msg']} (given {detail['input']!r})"
