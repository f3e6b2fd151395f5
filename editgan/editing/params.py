"""Parameters of stage `editing`."""

from pydantic import Field

from editgan.config import Section


class ObjectiveWeights(Section):
    """Weights of the terms of the editing objective (EditGAN, section 3.2)."""

    lpips: float = Field(ge=0)
    mse: float = Field(ge=0)
    ce: float = Field(ge=0)
    identity: float = Field(default=0.0, ge=0)


# The values of params.yaml, for runs without a params file. The factor 5 is the paper's for refinement
# (supplement); for learning an edit it has 15, with which less of a painted mask appears (docs/results/edits.md).
DEFAULT_WEIGHTS = ObjectiveWeights(lpips=50, mse=25, ce=1)


class OptimizationParams(Section):
    """Settings of one optimisation of delta_w_plus."""

    steps: int = Field(ge=1)
    lr: float = Field(gt=0)


class EditingParams(Section):
    """How the vectors of `edits.yaml` are learned, tested and refined."""

    heads: int = Field(ge=1)
    weights: ObjectiveWeights
    edit: OptimizationParams
    refine: OptimizationParams
