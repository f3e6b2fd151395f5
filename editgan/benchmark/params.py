"""Parameters of stage `benchmark`."""

from pydantic import Field

from editgan.section import Section


class BenchmarkParams(Section):
    """How the edited test heads are measured. Vectors and strengths are in section `scoring`."""

    grid_heads: int = Field(ge=1)  # number of test heads shown in the pictures
