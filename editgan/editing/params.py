"""Parameters of stage `editing`."""

from pydantic import Field

from editgan.section import Section


class ObjectiveWeights(Section):
    """Weights of the terms of the editing objective (EditGAN, section 3.2)."""

    lpips: float = Field(ge=0)  # LPIPS-VGG outside the region
    mse: float = Field(ge=0)  # squared error outside the region
    ce: float = Field(ge=0)  # cross-entropy to the edited mask inside the region
    identity: float = Field(default=0.0, ge=0)  # 1 - cosine of dlib face features; 0: off


# 5 * (10 LPIPS + 5 MSE) + CE, in the supplement for refinement. Editing has 15 instead of 5 there; here 5 too, because
# then more of a painted mask appears in the picture (docs/results/edits.md).
EDIT_WEIGHTS = ObjectiveWeights(lpips=50, mse=25, ce=1)
REFINE_WEIGHTS = ObjectiveWeights(lpips=50, mse=25, ce=1)


class OptimizationParams(Section):
    """Settings of one optimisation of delta_w_plus: learning an edit, or refinement."""

    steps: int = Field(ge=1)  # Adam steps; the best iterate is kept
    lr: float = Field(gt=0)  # learning rate of Adam
    weights: ObjectiveWeights


class EditingParams(Section):
    """How the vectors of `edits.yaml` are learned, tested and refined."""

    heads: int = Field(ge=1)  # most heads to learn an edit from
    edit: OptimizationParams  # learning a vector from an edited mask
    refine: OptimizationParams  # self-supervised refinement of an applied vector
