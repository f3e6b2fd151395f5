"""Parameters of stage `samples`."""

from pydantic import Field

from editgan.config import Section


class SamplesParams(Section):
    """Number of images per metric."""

    images: int = Field(ge=4)  # precision and recall look at 3 neighbours
    path_pairs: int = Field(ge=3)  # the mean leaves out the extremes
