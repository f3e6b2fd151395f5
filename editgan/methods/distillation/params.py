"""Parameters of stage `distillation`."""

from pydantic import Field, model_validator

from editgan.section import Section


class DistillationParams(Section):
    """How pairs are made and how pix2pixHD learns them.

    The paper's networks, for 256 px and more: width 64, residual false; and its training: 50,000 samples, batch 8, both
    learning rates 0.0002, vgg_images 8.
    """

    recipe: int = Field(ge=1)  # raise it when a code change should change the trained network
    samples: int = Field(ge=4)  # latents, of which the guide sees three images each: its own and a step either way
    step: float = Field(gt=0)  # step along the smile of stage interfacegan, in units of W; the paper takes 1.5
    pairs: int = Field(ge=2)  # pairs that are kept: those that the guide most surely calls opposite
    val_pairs: int = Field(ge=1)  # pairs among these that only measure
    width: int = Field(ge=4)  # channels of the network at the full resolution, and of the discriminators' first layer
    residual: bool  # true: add the source to the output; false: the paper's network
    kimg: float = Field(gt=0)  # pairs seen, in thousands
    batch: int = Field(ge=1)  # pairs a step
    lr: float = Field(gt=0)  # of Adam for the first half of the training; then it falls to 0
    d_lr: float = Field(gt=0)  # rate of the discriminators; falls alike
    vgg_images: int = Field(ge=1)  # images of each batch that VGG looks at; the paper takes all
    mirror: bool  # show every pair flipped half of the time

    @model_validator(mode="after")
    def _fits(self) -> "DistillationParams":
        for small, large in (("pairs", "samples"), ("vgg_images", "batch")):
            if getattr(self, small) > getattr(self, large):
                raise ValueError(f"{small} {getattr(self, small)} must not exceed {large} {getattr(self, large)}")
        if self.val_pairs >= self.pairs:
            raise ValueError(f"val_pairs {self.val_pairs} must leave some of the {self.pairs} pairs to learn from")
        return self
