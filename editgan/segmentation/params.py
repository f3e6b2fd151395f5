"""The `segmentation` section of a params file."""

from pydantic import Field

from editgan.section import Section


class SegmentationParams(Section):
    """Training of S."""

    recipe: int = Field(ge=1)  # raise by hand when a code change should retrain S
    labelled_images: int = Field(ge=1)  # number of labelled images, from the start of the pool; 16 in the paper
    members: int = Field(ge=1)  # classifiers in the ensemble
    epochs: int = Field(ge=1)  # passes over all labelled pixels, in a separate order per member
    batch: int = Field(ge=2)  # pixels per step and member
    learning_rate: float = Field(gt=0)  # Adam
    min_label_pixels: int = Field(ge=0)  # smaller labels become background; used from 256 px on
