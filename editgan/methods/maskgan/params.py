"""Parameters of stage `maskgan`."""

from typing import Literal

from pydantic import Field, model_validator

from editgan.section import Section


class LabelTraining(Section):
    """Training of a small network on masks: a number of images, Adam, its rate falling to 0 along a half cosine."""

    kimg: float = Field(gt=0)  # thousands of images seen
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)  # at the start


class VaeParams(LabelTraining):
    """The autoencoder of masks."""

    width: int = Field(ge=1)  # channels after its first layer; each further one doubles them
    num_downs: int = Field(ge=1)  # layers either way
    latent: int = Field(ge=1)  # size of a code
    kl_weight: float = Field(ge=0)


class ParserParams(LabelTraining):
    """The network that reads masks from images."""

    width: int = Field(ge=1)  # channels at the full resolution
    depth: int = Field(ge=1)  # halvings


class BlenderParams(Section):
    """The network that blends the two faces of a simulated edit."""

    width: int = Field(ge=4)
    num_downs: int = Field(ge=0)
    num_blocks: int = Field(ge=1)


class MaskganParams(Section):
    """How MaskGAN is trained, and which mouth its smile takes.

    The paper's networks, for 512 px: width 64, num_downs 4, num_blocks 4, styled_ups false, style_width and mask_width
    64, style_downs 3, d_width 64, vae {width 32, num_downs 7, latent 1024}, blender {width 32, num_downs 3, num_blocks
    3}; for 256 px the same with vae.num_downs 6. Its training: batch 8, vae.lr 0.001, lr and
    d_lr 0.0002, ebst_rate 0.25, vgg_images 8.
    """

    recipe: int = Field(ge=1)  # raise when a code change should change the result
    learn_from: Literal["train", "pool", "none"]  # the split whose masks it learns from, or the method is left out
    width: int = Field(ge=4)  # channels of the dense mapping network at the full resolution
    num_downs: int = Field(ge=0)  # its layers of stride 2, each with twice the channels
    num_blocks: int = Field(ge=1)  # its residual blocks, whose normalisation the style drives
    styled_ups: bool  # the style drives the layers on the way up, too; false: the paper's network
    style_width: int = Field(ge=4)  # channels of the style encoder's branch on the photo
    mask_width: int = Field(ge=4)  # ... and on the mask
    style_downs: int = Field(ge=0)  # its layers of stride 2 after the first two
    d_width: int = Field(ge=4)  # channels of the discriminators' first layer
    vae: VaeParams
    parser: ParserParams
    blender: BlenderParams
    kimg: float = Field(gt=0)  # stage 1: images seen, in thousands
    ebst_kimg: float = Field(ge=0)  # stage 2, with simulated edits
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)  # of Adam for the first half of stage 1, in the second it falls ...
    d_lr: float = Field(gt=0)  # of the discriminators; falls alike
    ebst_rate: float = Field(gt=0, le=1)  # ... to this part of it, and in stage 2 to 0
    ebst_divisor: float = Field(gt=0)  # a simulated edit goes this part, 1 / divisor, of the way to another mask
    feature_matching_weight: float = Field(ge=0)
    vgg_weight: float = Field(ge=0)
    vgg_images: int = Field(ge=1)  # images of each batch that VGG looks at
    val_images: int = Field(ge=1)  # validation heads that are drawn and measured
    donor_smile: float = Field(gt=0, le=1)  # least smile of the training heads whose mouths are tried
    donors: int = Field(ge=1)  # so many are drawn, the most frontal gives its mouth to every smile
    status_kimg: float = Field(gt=0)  # one line of stats.jsonl
    snapshot_kimg: float = Field(gt=0)  # measured on the validation heads
    state_kimg: float = Field(gt=0)  # the complete state, from which an interrupted run goes on

    @model_validator(mode="after")
    def _fits(self) -> "MaskganParams":
        if self.vgg_images > self.batch:
            raise ValueError(f"vgg_images {self.vgg_images} must not exceed batch {self.batch}")
        for name in ("style_width", "mask_width"):
            if getattr(self, name) % 4:
                raise ValueError(f"{name} {getattr(self, name)} must be a multiple of 4")
        return self
