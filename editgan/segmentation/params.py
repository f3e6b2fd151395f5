"""The `segmentation` section of a params file."""

from pydantic import Field

from editgan.section import Section


class SegmentationParams(Section):
    """How S is trained."""

    recipe: int = Field(ge=1)  # raise by hand when a code change should retrain S
    labelled_images: int = Field(ge=1)  # first heads of the pool whose masks are used; the paper's 16
    members: int = Field(ge=1)  # classifiers in the ensemble
    epochs: int = Field(ge=1)  # passes over all labelled pixels, each member in an order of its own
    batch: int = Field(ge=2)  # pixels per step and member
    lr: float = Field(gt=0)  # Adam
    min_label_pixels: int = Field(ge=0)  # smaller labels become background; used from 256 px on
