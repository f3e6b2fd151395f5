"""Parameters of stage `data`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from editgan.section import Section


class DataParams(Section):
    """Source of the pictures and size of each split. Splits share no person, if persons are known."""

    source: Literal["heads", "folder", "celeba_hq"] = "heads"  # rendered, a folder (docs/data.md), or CelebA-HQ
    folder: str | None = None  # of pictures; absolute, or relative to the main project folder (not to a checkout)
    train: int = Field(ge=1)  # training images; their masks go to a separate archive
    pool: int = Field(ge=1)  # heads with masks; the labelled heads are taken from them
    few_shot: int = Field(ge=1)  # the first heads of the pool: cover every part class and include open smiles
    val: int = Field(ge=1)  # validation heads: everything is chosen on these
    test: int = Field(ge=2)  # neutral heads of the benchmark; rendered ones also exist truly smiling
    reference: int = Field(ge=2)  # other test identities (rendered: half smiling): the reference of FID and KID

    @model_validator(mode="after")
    def _folder(self) -> DataParams:
        if (self.source == "heads") is not (self.folder is None):
            wanted = "rendered heads need no folder; set folder to null" if self.folder else "set data.folder"
            raise ValueError(f"source {self.source}: {wanted}")
        return self
