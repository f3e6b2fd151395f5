"""Read a params file into frozen, typed sections."""

import functools
import importlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, create_model, field_validator, model_validator

from editgan.section import Section, checked, flat_keys, read_params

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


class RuntimeParams(Section):
    """Where and how to compute."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # Names the folder work/training/NAME and the file data/training/NAME.safetensors: a training keeps its state when
    # parameters change.
    training: str | None = Field(default=None, pattern=r"^[\w-]+$")


class BaseParams(Section):
    """The keys that belong to no stage. Checks conditions between sections."""

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
    def _sections_fit(self) -> "BaseParams":
        for small, large in FITS:
            if (value := _value(self, small)) > (limit := _value(self, large)):
                raise ValueError(f"{small} {value} must not exceed {large} {limit}")
        return self


def _value(params: Section, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), params)


def package_of(stage: str) -> str:
    """Dotted name of a stage's package."""
    return f"editgan.methods.{stage}" if stage in METHODS else f"editgan.{stage}"


def section_class(stage: str) -> type[Section]:
    """The params class of a stage: `StageParams` in `params.py` of its package; methods share one module."""
    package = "editgan.methods" if stage in METHODS else package_of(stage)
    return getattr(importlib.import_module(f"{package}.params"), f"{stage.capitalize()}Params")


Params: Any = create_model("Params", __base__=BaseParams, **{stage: (section_class(stage), ...) for stage in STAGES})


def load_params(path: str | Path = "params.yaml") -> "Params":
    """Read and check a params file; one in params/ is merged over params.yaml.

    Raises UserError: the file is missing or not YAML, a key is unknown or missing, or a value is out of range. The
    message lists all errors with key and value.
    """
    path = Path(path)
    return checked(Params, read_params(path), path)


def stage_params(name: str, params: Params) -> dict[str, Any]:
    """Parameters to record for a stage: shared keys and its own section, flat, e.g. "generator.r1_gamma"."""
    return flat_keys(params.model_dump(include={"seed", "resolution", "runtime", name}))
