"""Parameters of stage `samples`."""

from pydantic import Field

from editgan.section import Section


class SamplesParams(Section):
    """How many images stand behind each figure. More make it surer and slower."""

    images: int = Field(ge=2)  # samples, and as many real ones a side, for FID, KID, precision and recall
    path_pairs: int = Field(ge=2)  # pairs of neighbours in W behind the perceptual path length
