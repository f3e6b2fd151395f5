"""The `editing` section of a params file."""

from pydantic import Field

from editgan.section import Section


class ObjectiveWeights(Section):
    """Weights of the terms of the editing objective (EditGAN, section 3.2)."""

    lpips: float = Field(ge=0)  # LPIPS-VGG outside the region
    mse: float = Field(ge=0)  # mean squared error of images in [0, 1], zero inside the region
    ce: float = Field(ge=0)  # cross-entropy to the edited mask inside the region
    identity: float = Field(default=0.0, ge=0)  # 1 - cosine of dlib face features; 0 switches the network off


# The released code's 15 * (10 LPIPS + 5 MSE) + CE; the paper's refinement lowers its 15 to 5 (supplement).
EDIT_WEIGHTS = ObjectiveWeights(lpips=150, mse=75, ce=1)
REFINE_WEIGHTS = ObjectiveWeights(lpips=50, mse=25, ce=1)


class OptimizationParams(Section):
    """One kind of optimisation of delta_w_plus."""

    steps: int = Field(ge=1)  # Adam updates; the best of the steps + 1 iterates is kept
    lr: float = Field(gt=0)
    weights: ObjectiveWeights


class EditingParams(Section):
    """How the vectors of `edits.yaml` are learned, tried and refined."""

    heads: int = Field(ge=1)  # a vector is the mean of what so many heads learn at the most; the paper takes 1
    shared_rows: bool  # learn one delta for all rows of w_plus; false: the paper's free rows
    edit: OptimizationParams  # learning a vector from an edited mask
    refine: OptimizationParams  # self-supervised refinement of an applied vector
