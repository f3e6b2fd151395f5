"""Parameters of stage `samples`."""

from pydantic import Field

from editgan.section import Section


class SamplesParams(Section):
    """Number of images per metric. More images make it more accurate and slower."""

    images: int = Field(ge=2)  # samples, and two equal sets of real images, for FID, KID, precision, recall
    path_pairs: int = Field(ge=2)  # pairs of neighbours in W for the perceptual path length
