"""What the benchmark of a class edits and how success is judged: data that a class of pictures brings with it.

Rendered classes have a protocol each (`renderers.PROTOCOLS`). A folder of pictures may bring `benchmark.yaml`; without
it, its pictures are faces and the benchmark is that of smiles (EditGAN, section 4.2).
"""

import json
from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from editgan.config import Section, checked, read_yaml

FILE = "benchmark.yaml"
MOUTH = ("upper_lip", "lower_lip", "mouth_interior")  # Q_edit of the smile: the parts it may change


class Protocol(Section):
    """The benchmark of one attribute, a number: pictures without it are edited to have it."""

    attribute: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    parts: tuple[str, ...] = Field(min_length=1)  # Q_edit: the parts that the edit may change
    low: float  # up to this value a picture is without the attribute
    high: float  # from this value on it has the attribute
    growth: float = Field(gt=1)  # success by the parser: the parts cover this many times the pixels of the input
    conditions: tuple[str, ...] = ()  # attributes that InterFaceGAN's conditional direction preserves

    faces: ClassVar[bool] = False
    judges: ClassVar[tuple[str, ...]] = ("judge", "parser")  # of success: the classifier of stage judges, the parser
    kept_by: ClassVar[str] = "efflite0"  # the network that says how much of the input is kept
    # Names in the tables of results: success, what is kept, the row of true changes, overlap with the true
    # parts, similarity of unrelated pictures.
    success: ClassVar[str] = "changed"
    kept: ClassVar[str] = "similarity"
    truth: ClassVar[str] = "truly_changed"
    overlap: ClassVar[str] = "parts_iou"
    strangers: ClassVar[str] = "different_things"

    @model_validator(mode="after")
    def _apart(self) -> "Protocol":
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self

    def value(self, attributes: Mapping) -> float:
        """The attribute of a picture; nan if it is not known."""
        found = attributes.get(self.attribute)
        return float(found) if isinstance(found, int | float) else nan

    def without(self, attributes: Mapping) -> bool:
        """Whether a picture is known to be without the attribute."""
        return self.value(attributes) <= self.low


class SmileProtocol(Protocol):
    """Smiles: judged by three smile networks, identity by face recognition. `high` is judges.smile_threshold."""

    faces: ClassVar[bool] = True
    judges: ClassVar[tuple[str, ...]] = ("judge", "face_api_expression", "fer")
    kept_by: ClassVar[str] = "mobilefacenet"
    success: ClassVar[str] = "smiling"
    kept: ClassVar[str] = "identity"
    truth: ClassVar[str] = "truly_smiling"
    overlap: ClassVar[str] = "mouth_iou"
    strangers: ClassVar[str] = "different_people"


SMILE = SmileProtocol(
    attribute="smile", parts=MOUTH, low=0, high=1, growth=2, conditions=("masculine", "age", "yaw")
)  # growth is not used


def read_protocol(folder: Path) -> Protocol | None:
    """The protocol in a folder of pictures; None if it brings none. Raises UserError: the file has a fault."""
    path = folder / FILE
    return checked(Protocol, read_yaml(path), path) if path.exists() else None


def load_protocol(data: Path) -> Protocol:
    """The protocol of the pictures in outputs/data, by their recipe.json."""
    from editgan.data.renderers import PROTOCOLS  # imports the renderers

    path = data / "recipe.json"
    recipe = json.loads(path.read_text()) if path.exists() else {}
    if "benchmark" in recipe:
        return Protocol.model_validate(recipe["benchmark"])
    return PROTOCOLS.get(recipe.get("source"), SMILE)
