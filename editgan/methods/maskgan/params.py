"""Parameters of stage `maskgan`."""

from typing import Literal

from pydantic import Field, model_validator

from editgan.section import Section


class MaskganParams(Section):
    """How MaskGAN is trained, and which mouth its smile takes. Sizes of its networks: `sizes_of`.

    The paper's width is 64, styled_ups false; its training: batch 8, lr and d_lr 0.0002, vgg_images 8.
    """

    recipe: int = Field(ge=1)  # raise it when a code change should change the trained network
    learn_from: Literal["train", "pool", "none"]  # the split whose masks it learns from, or the method is left out
    width: int = Field(ge=4)  # channels of the dense mapping network at the full resolution
    styled_ups: bool  # true: the style drives the layers on the way up, too; false: the paper's network
    vae_kimg: float = Field(gt=0)  # masks seen by the autoencoder of masks, which simulates edits, in thousands
    parser_kimg: float = Field(gt=0)  # images seen by the network that reads masks from images, in thousands
    kimg: float = Field(gt=0)  # images of stage 1, faces from their own masks, in thousands
    ebst_kimg: float = Field(ge=0)  # images of stage 2, with simulated edits, in thousands
    batch: int = Field(ge=1)  # images a step; the paper takes 8
    lr: float = Field(gt=0)  # of Adam for half of stage 1; then it falls to a quarter, in stage 2 to 0
    d_lr: float = Field(gt=0)  # rate of the discriminators; falls alike
    vgg_images: int = Field(ge=1)  # images of each batch that VGG looks at; the paper takes all
    val_images: int = Field(ge=1)  # validation heads that are drawn and measured
    donor_smile: float = Field(gt=0, le=1)  # least smile of the training heads whose mouths are tried
    donors: int = Field(ge=1)  # training heads that are drawn; the most frontal one gives its mouth to every smile

    @model_validator(mode="after")
    def _fits(self) -> "MaskganParams":
        if self.vgg_images > self.batch:
            raise ValueError(f"vgg_images {self.vgg_images} must not exceed batch {self.batch}")
        return self
