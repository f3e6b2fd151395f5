"""Parameters of stage `judges`."""

from pydantic import Field

from editgan.section import Section


class JudgesParams(Section):
    """How the guide and the judge learn to see a smile; both get the same number of images."""

    recipe: int = Field(ge=1)  # raise it when a code change should change the trained classifiers
    smile_threshold: float = Field(gt=0, le=1)  # heads with a smile of at least this are "smiling"; 0 is "neutral"
    kimg: float = Field(gt=0)  # images seen by each classifier, in thousands
    batch: int = Field(ge=2)  # images a step
    lr: float = Field(gt=0)  # rate of Adam at the start; falls to 0 along a cosine
    guide_width: int = Field(ge=4, multiple_of=4)  # channels of the guide's first layer; the judge has twice as many
