"""The `segmentation` section of a params file."""

from pydantic import Field

from editgan.section import Section


class SegmentationParams(Section):
    """Training of S."""

    recipe: int = Field(ge=1)  # raise by hand when a code change should retrain S
    labelled_images: int = Field(ge=1)  # number of labelled images, from the start of the pool; 16 in the paper
    members: int = Field(ge=1)  # classifiers in the ensemble
    epochs: int = Field(ge=1)  # passes over all labelled pixels, in a separate order per member
    lr: float = Field(gt=0)  # learning rate of Adam
