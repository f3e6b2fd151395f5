"""Parameters of stage `distillation`."""

from pydantic import Field, model_validator

from editgan.section import Section


class DistillationParams(Section):
    """How pairs are made and how pix2pixHD learns them.

    The paper's networks, for 256 px and more: width 64, num_downs 4, num_blocks 9, residual false, d_width 64; and its
    training: 50,000 samples, batch 8, both learning rates 0.0002, vgg_images 8.
    """

    recipe: int = Field(ge=1)  # raise when a code change should change the result
    samples: int = Field(ge=4)  # latents, three images each
    truncation_psi: float = Field(gt=0, le=1)  # of the samples
    step: float = Field(gt=0)  # along the direction, either way, in units of W
    rows: int = Field(ge=1)  # of w_plus that it moves, the coarse ones first
    pairs: int = Field(ge=2)  # the most confident so many are kept, 6 * resolution^2 bytes of memory each; of these ...
    val_pairs: int = Field(ge=1)  # ... so many only measure
    width: int = Field(ge=4)  # channels of the network at the full resolution
    num_downs: int = Field(ge=0)  # its layers of stride 2, each with twice the channels
    num_blocks: int = Field(ge=1)  # its residual blocks
    residual: bool  # add the source to the network's output; false: the paper's network
    d_width: int = Field(ge=4)  # channels of the discriminators' first layer
    kimg: float = Field(gt=0)  # pairs seen, in thousands
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)  # of Adam for the first half of the training; then it falls to 0
    d_lr: float = Field(gt=0)  # of the discriminators' Adam; falls alike
    feature_matching_weight: float = Field(ge=0)
    vgg_weight: float = Field(ge=0)
    vgg_images: int = Field(ge=1)  # images of each batch that VGG looks at
    mirror: bool  # show every pair flipped half of the time
    status_kimg: float = Field(gt=0)  # one line of stats.jsonl
    snapshot_kimg: float = Field(gt=0)  # measured on the validation pairs
    state_kimg: float = Field(gt=0)  # the complete state, from which an interrupted run goes on

    @model_validator(mode="after")
    def _fits(self) -> "DistillationParams":
        for small, large in (("pairs", "samples"), ("vgg_images", "batch")):
            if getattr(self, small) > getattr(self, large):
                raise ValueError(f"{small} {getattr(self, small)} must not exceed {large} {getattr(self, large)}")
        if self.val_pairs >= self.pairs:
            raise ValueError(f"val_pairs {self.val_pairs} must leave some of the {self.pairs} pairs to learn from")
        return self
