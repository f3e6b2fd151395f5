"""Parameters of stage `data`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from editgan.config import Section

RENDERED = ("heads", "cars", "cats", "birds")  # sources that need no folder


class DataParams(Section):
    """Source of the pictures and size of each split. Splits share no person, if persons are known.

    `folder` is absolute or relative to the main project folder, not to a checkout.
    """

    source: Literal["heads", "cars", "cats", "birds", "folder", "celeba_hq"] = "heads"
    folder: str | None = None
    train: int = Field(ge=1)
    pool: int = Field(ge=1)
    few_shot: int = Field(ge=1)
    val: int = Field(ge=1)
    test: int = Field(ge=4)
    reference: int = Field(ge=2)

    @model_validator(mode="after")
    def _folder(self) -> DataParams:
        if (self.source in RENDERED) is not (self.folder is None):
            wanted = "rendered pictures need no folder; set folder to null" if self.folder else "set data.folder"
            raise ValueError(f"source {self.source}: {wanted}")
        return self
