"""The `editing` section of a params file."""

from pydantic import Field

from editgan.section import Section


class ObjectiveWeights(Section):
    """Weights of the terms of the editing objective (EditGAN, section 3.2)."""

    lpips: float = Field(ge=0)  # LPIPS-VGG outside the region
    mse: float = Field(ge=0)  # squared error outside the region
    ce: float = Field(ge=0)  # cross-entropy to the edited mask inside it
    identity: float = Field(default=0.0, ge=0)  # 1 - cosine of dlib face features; 0 switches the network off


# The released code's 15 * (10 LPIPS + 5 MSE) + CE; the paper's refinement lowers its 15 to 5 (supplement).
EDIT_WEIGHTS = ObjectiveWeights(lpips=150, mse=75, ce=1)
REFINE_WEIGHTS = ObjectiveWeights(lpips=50, mse=25, ce=1)


class OptimizationParams(Section):
    """One kind of optimisation of delta_w_plus."""

    steps: int = Field(ge=1)  # steps of Adam; the best iterate is kept
    lr: float = Field(gt=0)  # rate of Adam
    weights: ObjectiveWeights


class EditingParams(Section):
    """How the vectors of `edits.yaml` are learned, tried and refined."""

    heads: int = Field(ge=1)  # heads that a vector is the mean of at the most; the paper takes 1
    shared_rows: bool  # true: the vector moves all rows of w_plus alike; false: free rows, the paper's
    edit: OptimizationParams  # learning a vector from an edited mask
    refine: OptimizationParams  # self-supervised refinement of an applied vector
