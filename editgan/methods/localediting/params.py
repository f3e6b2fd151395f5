"""Parameters of stage `localediting`."""

from pydantic import Field

from editgan.section import Section


class LocaleditingParams(Section):
    """How the channels of the mouth are found; at which strengths they are swapped stands in section `scoring`."""

    recipe: int = Field(ge=1)  # raise it when a code change should change the channels
    samples: int = Field(ge=16)  # images whose features are clustered and whose channels are measured
    references: int = Field(ge=1)  # smiling training heads that are tried as the reference
    rho: tuple[float, ...] = Field(min_length=1)  # least share of a channel within the mouth, tried on validation heads
    epsilon: tuple[float, ...] = Field(min_length=1)  # limit of the sum of what channels do elsewhere, tried there, too
