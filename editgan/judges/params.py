"""Parameters of stage `judges`."""

from pydantic import Field

from editgan.config import Section


class JudgesParams(Section):
    """Training of the guide and the judge."""

    recipe: int = Field(ge=1)
    smile_threshold: float = Field(gt=0, le=1)
    kimg: float = Field(ge=0.001)
    batch: int = Field(ge=2)
    lr: float = Field(gt=0)
    guide_width: int = Field(ge=4, multiple_of=4)
