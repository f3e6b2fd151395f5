"""Parameters of stage `samples`."""

from pydantic import Field

from editgan.section import Section


class SamplesParams(Section):
    """How many images stand behind each figure. More make it surer and slower."""

    images: int = Field(ge=2)  # samples, and as many real images a side, for FID, KID, precision and recall
    judged_images: int = Field(ge=1)  # the first so many are shown to the face detector and the smile networks
    path_pairs: int = Field(ge=2)  # pairs of neighbours in W behind the perceptual path length
    neighbours: int = Field(ge=1)  # k of precision and recall
    nearest: int = Field(ge=1)  # samples shown beside their nearest training image
    batch: int = Field(ge=1)  # images at a time through a network; changes speed, not results
