"""Parameters of stage `judges`."""

from pydantic import Field

from editgan.section import Section


class JudgesParams(Section):
    """Training of the guide and the judge; both see the same number of images."""

    recipe: int = Field(ge=1)  # raise by hand when a code change should change the trained classifiers
    smile_threshold: float = Field(gt=0, le=1)  # smile values from here on count as smiling; only 0 counts as neutral
    kimg: float = Field(gt=0)  # training images seen by each classifier, in thousands
    batch: int = Field(ge=2)  # images per step
    lr: float = Field(gt=0)  # initial learning rate of Adam; cosine decay to 0
    guide_width: int = Field(ge=4, multiple_of=4)  # channels of the guide's first layer; the judge has twice as many
