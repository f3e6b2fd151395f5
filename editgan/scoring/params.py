"""Parameters of stage `scoring`."""

from typing import Annotated

from pydantic import Field, model_validator

from editgan.section import Section

Strengths = Annotated[tuple[float, ...], Field(min_length=1)]


class ScoringParams(Section):
    """Strengths to measure for each method. The guide chooses the strength of the table on validation heads."""

    recipe: int = Field(ge=1)  # increase it if a code change should change the result
    vector: str  # editing vector of EditGAN: a file in outputs/editing/vectors
    plus_vector: str  # editing vector of EditGAN+
    editgan: Strengths  # 1 is the learned vector
    refined: Strengths  # strengths of the vector before refinement; the chosen one is added
    editgan_plus: Strengths  # 1 is the mean of the learned vectors
    interfacegan: Strengths  # in units of W; the paper uses 1
    localediting: Strengths  # 1 replaces the styles completely

    @model_validator(mode="after")
    def _positive_and_rising(self) -> "ScoringParams":
        for name in ("editgan", "refined", "editgan_plus", "interfacegan", "localediting"):
            values = getattr(self, name)
            if values[0] <= 0 or list(values) != sorted(set(values)):
                raise ValueError(f"{name} {list(values)}: expected increasing strengths above 0")
        return self
