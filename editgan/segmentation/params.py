"""Parameters of stage `segmentation`."""

from pydantic import Field

from editgan.config import Section


class SegmentationParams(Section):
    """Training of S."""

    recipe: int = Field(ge=1)
    labelled_images: int = Field(ge=1)
    members: int = Field(ge=1)
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0)
