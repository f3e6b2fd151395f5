"""Parameters of stage `editing`."""

from pydantic import Field

from editgan.section import Section


class ObjectiveWeights(Section):
    """Weights of the terms of the editing objective (EditGAN, section 3.2)."""

    lpips: float = Field(ge=0)  # LPIPS-VGG outside the region
    mse: float = Field(ge=0)  # squared error outside the region
    ce: float = Field(ge=0)  # cross-entropy to the edited mask inside the region
    identity: float = Field(default=0.0, ge=0)  # 1 - cosine of dlib face features; 0: off


# Editing: 15 * (10 LPIPS + 5 MSE) + CE, as in the released code. Refinement: 5 instead of 15, as in the supplement.
EDIT_WEIGHTS = ObjectiveWeights(lpips=150, mse=75, ce=1)
REFINE_WEIGHTS = ObjectiveWeights(lpips=50, mse=25, ce=1)


class OptimizationParams(Section):
    """Settings of one optimisation of delta_w_plus: learning an edit, or refinement."""

    steps: int = Field(ge=1)  # Adam steps; the best iterate is kept
    lr: float = Field(gt=0)  # learning rate of Adam
    weights: ObjectiveWeights


class EditingParams(Section):
    """How the vectors of `edits.yaml` are learned, tested and refined."""

    heads: int = Field(ge=1)  # maximum number of heads over which a vector is averaged; the paper uses 1
    shared_rows: bool  # true: all rows of W+ share one offset; false: independent rows as in the paper
    edit: OptimizationParams  # learning a vector from an edited mask
    refine: OptimizationParams  # self-supervised refinement of an applied vector
