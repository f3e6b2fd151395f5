"""Parameters of stage `scoring`."""

from typing import Annotated

from pydantic import Field, model_validator

from editgan.config import Section

Strengths = Annotated[tuple[float, ...], Field(min_length=1)]


class ScoringParams(Section):
    """Vectors of the table, and strengths to measure for each method."""

    recipe: int = Field(ge=1)
    vector: str
    plus_vector: str
    editgan: Strengths
    refined: Strengths
    editgan_plus: Strengths
    interfacegan: Strengths
    localediting: Strengths

    @model_validator(mode="after")
    def _positive_and_rising(self) -> "ScoringParams":
        for name in ("editgan", "refined", "editgan_plus", "interfacegan", "localediting"):
            values = getattr(self, name)
            if values[0] <= 0 or list(values) != sorted(set(values)):
                raise ValueError(f"{name} {list(values)}: expected increasing strengths above 0")
        return self
