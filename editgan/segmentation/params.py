"""The `segmentation` section of a params file."""

from pydantic import Field

from editgan.section import Section


class SegmentationParams(Section):
    """How S is trained."""

    recipe: int = Field(ge=1)  # raise it when a code change should change the trained classifiers
    labelled_images: int = Field(ge=1)  # heads at the start of the pool whose masks it learns from; the paper's 16
    members: int = Field(ge=1)  # classifiers in the ensemble
    epochs: int = Field(ge=1)  # passes over all labelled pixels
    lr: float = Field(gt=0)  # rate of Adam
