"""Params files: the base class of their sections; reading, merging and checking them.

A file in params/ contains only the values that differ from params.yaml.
"""

import functools
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

from editgan.errors import UserError

STAGES = (
    "assets", "data", "judges", "generator", "samples", "encoder", "segmentation", "editing",
    "interfacegan", "localediting", "distillation", "maskgan", "scoring", "benchmark", "report",
)  # fmt: skip
METHODS = ("interfacegan", "localediting", "distillation", "maskgan")  # stages whose packages are in editgan/methods

# pairs of keys: the value of the first must not exceed that of the second
FITS = (
    ("data.few_shot", "data.pool"),
    ("encoder.val_images", "data.val"),
    ("maskgan.val_images", "data.val"),
    ("segmentation.labelled_images", "data.few_shot"),
    ("benchmark.grid_heads", "data.test"),
    ("report.heads", "benchmark.grid_heads"),
    ("resolution", "generator.channel_base"),
    ("resolution", "generator.d_channel_base"),
    ("resolution", "encoder.channel_base"),
)

# What only some stages need: for each, (a multiple of a key) that must not exceed another key.
NEEDS = {
    "samples": ((2, "samples.images", "data.train"),),
    "interfacegan": ((1, "interfacegan.condition_heads", "data.train"),),
    "localediting": ((1, "localediting.references", "data.train"),),
    "maskgan": ((1, "maskgan.donors", "data.train"),),
}


class Section(BaseModel):
    """A frozen, typed section of `params.yaml`, where each value is described. An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


SectionT = TypeVar("SectionT", bound=Section)


class RuntimeParams(Section):
    """Where and how to compute."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # Names the folder work/training/NAME and the file data/training/NAME.safetensors: a training keeps its state when
    # parameters change.
    training: str | None = Field(default=None, pattern=r"^[\w-]+$")


class Params(Section):
    """A whole params file: these keys, and a section for each stage, which `load_params` adds."""

    seed: int = Field(ge=0, lt=2**31)
    resolution: int = Field(ge=32, le=1024)
    runtime: RuntimeParams = RuntimeParams()

    @field_validator("resolution")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of two")
        return value

    @model_validator(mode="after")
    def _sections_fit(self) -> "Params":
        for small, large in FITS:
            if (value := _value(self, small)) > (limit := _value(self, large)):
                raise ValueError(f"{small} {value} must not exceed {large} {limit}")
        return self

    def __reduce__(self) -> tuple:  # `whole_class` is made at run time, so pickle cannot find it by its name
        return _restored, (dict(self),)


def _restored(fields: dict[str, Any]) -> "Params":
    return whole_class().model_construct(**fields)


def check_needs(params: "Params", stages: Iterable[str], path: str | Path) -> None:
    """Raises UserError, which lists every fault, if the values do not suffice for these stages."""
    faults = []
    for stage in stages:
        for times, small, large in NEEDS.get(stage, ()):
            if (needed := times * _value(params, small)) > (limit := _value(params, large)):
                multiple = f"{times} times {small}, " if times > 1 else f"{small}, "
                faults.append(f"  {large} {limit}: stage {stage} needs {multiple}{needed}")
    if faults:
        raise UserError("\n".join([f"{path}:", *faults]))


def _value(params: Section, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), params)


def package_of(stage: str) -> str:
    """Dotted name of a stage's package."""
    return f"editgan.methods.{stage}" if stage in METHODS else f"editgan.{stage}"


def section_class(stage: str) -> type[Section]:
    """The params class of a stage: `StageParams` in `params.py` of its package; methods share one module."""
    package = "editgan.methods" if stage in METHODS else package_of(stage)
    return getattr(importlib.import_module(f"{package}.params"), f"{stage.capitalize()}Params")


@functools.cache
def whole_class() -> type[Params]:
    """`Params` with the section of every stage. Made when first needed, because the stages' modules import this one."""
    return create_model("Params", __base__=Params, **{stage: (section_class(stage), ...) for stage in STAGES})


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check a params file; one in params/ is merged over params.yaml.

    Raises UserError: the file is missing or not YAML, a key is unknown or missing, or a value is out of range. The
    message lists all errors with key and value.
    """
    path = Path(path)
    return checked(whole_class(), read_params(path), path)


def stage_params(name: str, params: Params) -> dict[str, Any]:
    """Parameters to record for a stage: shared keys and its own section, flat, e.g. "generator.r1_gamma"."""
    return flat_keys(params.model_dump(include={"seed", "resolution", "runtime", name}))


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
        content = parse_yaml(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping, found {content!r}")
    return content


class _OnceLoader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML would keep the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                fault = f"the key {key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, fault, key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """The content of a YAML text. Raises yaml.YAMLError: it is not YAML, or a mapping has a key twice."""
    try:
        return yaml.load(text, _OnceLoader)
    except (ValueError, RecursionError) as error:  # of a date like 2026-13-45, a number of 5,000 digits, deep nesting
        raise yaml.YAMLError(str(error)) from None


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
    if not detail["loc"]:  # a condition between sections, which names its values
        return f"  {detail['msg']}"
    return f"  {key}: {detail['msg']} (given {detail['input']!r})"
