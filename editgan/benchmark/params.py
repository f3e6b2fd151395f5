"""Parameters of stage `benchmark`."""

from pydantic import Field

from editgan.section import Section


class BenchmarkParams(Section):
    """How the edited test heads are measured. Vector and strengths stand in section `scoring`."""

    grid_heads: int = Field(ge=1)  # test heads at the start of the split that grid.png shows
