"""Parameters of stage `data`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from editgan.section import Section


class DataParams(Section):
    """Where the pictures come from and how many each split holds. Splits share no person, where people are known."""

    source: Literal["heads", "folder", "celeba_hq"] = "heads"  # rendered, your own (docs/data.md), or CelebA-HQ
    folder: str | None = None  # of the other two: absolute, or relative to the project (not to a checkout in it)
    train: int = Field(ge=1)  # images to learn from; their masks go to a separate archive
    pool: int = Field(ge=1)  # heads with masks, from which the labelled ones are taken
    few_shot: int = Field(ge=1)  # the first so many of the pool cover every part class and include open smiles
    val: int = Field(ge=1)  # heads on which everything is chosen
    test: int = Field(ge=2)  # neutral heads of the benchmark; rendered ones a second time truly smiling
    reference: int = Field(ge=2)  # other test identities, of rendered ones half smiling: the reference of FID and KID
    supersample: int = Field(ge=1, le=4)  # samples per pixel and axis of rendered heads

    @model_validator(mode="after")
    def _folder(self) -> DataParams:
        if (self.source == "heads") is not (self.folder is None):
            wanted = "rendered heads come from no folder; set folder to null" if self.folder else "name its folder"
            raise ValueError(f"source {self.source}: {wanted}")
        return self
