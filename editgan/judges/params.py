"""Parameters of stage `judges`."""

from pydantic import Field

from editgan.section import Section


class JudgesParams(Section):
    """How the guide and the judge learn to see a smile; both get the same number of images."""

    recipe: int = Field(ge=1)  # raised by hand when a code change should change the trained classifiers
    smile_threshold: float = Field(gt=0, le=1)  # heads with a smile of at least this are "smiling"; 0 is "neutral"
    input_resolution: int = Field(ge=16)  # side of the lower face as the classifiers see it, in pixels
    kimg: float = Field(gt=0)  # images seen by each classifier, in thousands
    batch: int = Field(ge=2)
    lr: float = Field(gt=0)  # of Adam at the start; it falls to 0 along a cosine
    guide_width: int = Field(ge=4, multiple_of=4)  # channels of the guide's first layer
    judge_width: int = Field(ge=4)  # channels of the judge's first layer; 64 is the published ResNet-18
    status_kimg: float = Field(ge=0.001)  # a line of progress and of stats_NAME.jsonl
    state_kimg: float = Field(ge=0.001)  # the complete state, from which an interrupted run goes on
