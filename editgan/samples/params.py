"""Parameters of stage `samples`."""

from pydantic import Field

from editgan.config import Section


class SamplesParams(Section):
    """Number of images per metric."""

    images: int = Field(ge=2)
    path_pairs: int = Field(ge=2)
