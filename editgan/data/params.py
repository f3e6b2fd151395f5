"""Parameters of stage `data`."""

from __future__ import annotations

from pydantic import Field

from editgan.section import Section


class DataParams(Section):
    """How many heads each split holds, and how they are rendered. Each head of each split is another identity."""

    train: int = Field(ge=1)  # images to learn from; their masks go to a separate archive
    pool: int = Field(ge=1)  # heads with masks, from which the labelled ones are taken
    few_shot: int = Field(ge=1)  # the first so many of the pool cover every part class and include open smiles
    val: int = Field(ge=1)  # heads on which everything is chosen
    test: int = Field(ge=2)  # neutral heads of the benchmark, rendered a second time truly smiling
    reference: int = Field(ge=2)  # other test identities, half of them smiling: the reference of FID and KID
    supersample: int = Field(ge=1, le=4)  # samples per pixel and axis
