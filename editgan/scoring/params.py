"""Parameters of stage `scoring`."""

from typing import Annotated

from pydantic import Field, model_validator

from editgan.section import Section

Strengths = Annotated[tuple[float, ...], Field(min_length=1)]


class ScoringParams(Section):
    """Strengths of each method. One of them is chosen for the table, on validation heads by the guide."""

    recipe: int = Field(ge=1)  # raise it when a code change should change the result
    vector: str  # editing vector of EditGAN, a file of outputs/editing/vectors
    plus_vector: str  # editing vector of EditGAN+
    smiling_share: float = Field(gt=0, le=1)  # share of smiles that the chosen strength is the least to reach
    editgan: Strengths  # strengths that are tried; 1 is what the vector's heads learned
    refined: Strengths  # strengths of the vector before refinement; the chosen one comes anyway
    editgan_plus: Strengths  # strengths of the mean of several heads' vectors
    interfacegan: Strengths  # strengths in units of W, 1 is the paper's
    localediting: Strengths  # strengths; 1 swaps the styles whole

    @model_validator(mode="after")
    def _positive_and_rising(self) -> "ScoringParams":
        for name in ("editgan", "refined", "editgan_plus", "interfacegan", "localediting"):
            values = getattr(self, name)
            if values[0] <= 0 or list(values) != sorted(set(values)):
                raise ValueError(f"{name} {list(values)}: give rising strengths above 0")
        return self
