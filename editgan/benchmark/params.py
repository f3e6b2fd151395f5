"""Parameters of stage `benchmark`."""

from pydantic import Field

from editgan.section import Section


class BenchmarkParams(Section):
    """How the edited test heads are measured. Vector and strengths stand in section `sweep`."""

    batch: int = Field(ge=1)  # images at a time through a network; changes speed, not results
    kid_subsets: int = Field(ge=1)  # random subsets that KID is averaged over
    bootstrap: int = Field(ge=100)  # resamples behind each 95 % interval
    grid_heads: int = Field(ge=1)  # test heads shown in grid.png, the first so many
