"""The `segmentation` section of a params file."""

from pydantic import Field

from editgan.section import Section


class SegmentationParams(Section):
    """How S is trained."""

    recipe: int = Field(ge=1)  # raise by hand when a code change should retrain S
    labelled_images: int = Field(ge=1)  # first heads of the pool whose masks are used; the paper's 16
    members: int = Field(ge=1)  # classifiers in the ensemble
    epochs: int = Field(ge=1)  # passes over all labelled pixels, each member in an order of its own
    lr: float = Field(gt=0)  # Adam
