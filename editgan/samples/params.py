"""Parameters of stage `samples`."""

from pydantic import Field

from editgan.section import Section


class SamplesParams(Section):
    """Number of images per metric. More images make it more accurate and slower."""

    images: int = Field(ge=2)  # samples, and two equal sets of real images, for FID, KID, precision, recall
    judged_images: int = Field(ge=1)  # number of these shown to the face detector and the smile networks
    path_pairs: int = Field(ge=2)  # pairs of neighbours in W for the perceptual path length
    neighbours: int = Field(ge=1)  # k of precision and recall
    nearest: int = Field(ge=1)  # samples shown next to their nearest training image
    batch: int = Field(ge=1)  # images per forward pass; changes speed, not results
