"""Parameters of stage `report`."""

from pydantic import Field

from editgan.config import Section


class ReportParams(Section):
    """What the page shows."""

    heads: int = Field(ge=1)
