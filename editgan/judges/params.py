"""Parameters of stage `judges`."""

from pydantic import Field

from editgan.section import Section


class JudgesParams(Section):
    """Training of the guide and the judge; both see the same number of images."""

    recipe: int = Field(ge=1)  # raise by hand when a code change should change the trained classifiers
    smile_threshold: float = Field(gt=0, le=1)  # smile values from here on count as smiling; only 0 counts as neutral
    input_resolution: int = Field(ge=16)  # side of the classifiers' input, the lower face, in pixels
    kimg: float = Field(gt=0)  # training images seen by each classifier, in thousands
    batch: int = Field(ge=2)
    learning_rate: float = Field(gt=0)  # initial learning rate of Adam; cosine decay to 0
    guide_width: int = Field(ge=4, multiple_of=4)  # channels of the guide's first layer
    judge_width: int = Field(ge=4)  # channels of the judge's first layer; 64 is the published ResNet-18
    status_kimg: float = Field(ge=0.001)  # interval of progress output and of lines in stats_NAME.jsonl
    state_kimg: float = Field(ge=0.001)  # interval of the complete state, from which an interrupted run resumes
