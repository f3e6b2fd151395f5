"""Parameters of stage `benchmark`."""

from pydantic import Field

from editgan.config import Section


class BenchmarkParams(Section):
    """Report of the edited test heads. Vectors and strengths are in section `scoring`."""

    grid_heads: int = Field(ge=1)
