"""Parameters of stage `interfacegan`."""

from pydantic import Field

from editgan.section import Section


class InterfaceganParams(Section):
    """How the direction is found; at which strengths it is applied stands in section `scoring`."""

    recipe: int = Field(ge=1)  # raise it when a code change should change the direction
    samples: int = Field(ge=200)  # latents that the guide scores; a support vector machine separates the extremes
    condition_heads: int = Field(ge=200)  # training heads whose attributes give the directions to leave alone
