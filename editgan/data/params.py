"""Parameters of stage `data`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from editgan.section import Section


class DataParams(Section):
    """Where the pictures come from and how many each split holds. Splits share no person, where people are known."""

    source: Literal["heads", "folder", "celeba_hq"] = "heads"  # rendered, your own (docs/data.md), or CelebA-HQ
    folder: str | None = None  # folder of pictures, for the sources folder and celeba_hq
    train: int = Field(ge=1)  # images to learn from, each another person; their masks and attributes are kept apart
    pool: int = Field(ge=1)  # labelled heads
    few_shot: int = Field(ge=1)  # heads at the start of the pool that cover every part class and open smiles
    val: int = Field(ge=1)  # heads on which everything is chosen
    test: int = Field(ge=2)  # neutral heads of the benchmark; rendered again truly smiling
    reference: int = Field(ge=2)  # heads of other test identities, half of them smiling, for FID and KID
    supersample: int = Field(ge=1, le=4)  # samples per pixel and axis of rendered heads

    @model_validator(mode="after")
    def _folder(self) -> DataParams:
        if (self.source == "heads") is not (self.folder is None):
            wanted = "rendered heads come from no folder; set folder to null" if self.folder else "name its folder"
            raise ValueError(f"source {self.source}: {wanted}")
        return self
