"""The sections of a params file for the methods of the benchmark; their strengths stand in section `scoring`."""

from typing import Literal

from pydantic import Field, model_validator

from editgan.section import Section


class InterfaceganParams(Section):
    """How the direction is found."""

    recipe: int = Field(ge=1)  # raise it when a code change should change the direction
    samples: int = Field(ge=200)  # latents that the guide scores; a support vector machine separates the extremes
    condition_heads: int = Field(ge=200)  # training heads whose attributes give the directions to leave alone


class LocaleditingParams(Section):
    """How the channels of the mouth are found."""

    recipe: int = Field(ge=1)  # raise it when a code change should change the channels
    samples: int = Field(ge=16)  # images whose features are clustered and whose channels are measured
    references: int = Field(ge=1)  # smiling training heads that are tried as the reference
    rho: tuple[float, ...] = Field(min_length=1)  # least share of a channel within the mouth, tried on validation heads
    epsilon: tuple[float, ...] = Field(min_length=1)  # limit of the sum of what channels do elsewhere, tried there, too


class TranslationParams(Section):
    """Training of an image-to-image network. The paper's: batch 8, both learning rates 0.0002, vgg_images 8."""

    recipe: int = Field(ge=1)  # raise it when a code change should change the trained network
    width: int = Field(ge=4)  # channels of the network at the full resolution; 64 in the papers
    kimg: float = Field(gt=0)  # images seen, in thousands; of MaskGAN in stage 1, faces from their own masks
    batch: int = Field(ge=1)  # images a step
    lr: float = Field(gt=0)  # of Adam for the first half of `kimg`, then it falls
    d_lr: float = Field(gt=0)  # rate of the discriminators; falls alike
    vgg_images: int = Field(ge=1)  # images of each batch that VGG looks at; the papers take all

    @model_validator(mode="after")
    def _fits(self) -> "TranslationParams":
        if self.vgg_images > self.batch:
            raise ValueError(f"vgg_images {self.vgg_images} must not exceed batch {self.batch}")
        return self


class DistillationParams(TranslationParams):
    """How pairs are made and how pix2pixHD learns them. The paper's: residual false, 50,000 samples."""

    samples: int = Field(ge=4)  # latents, of which the guide sees three images each: its own and a step either way
    step: float = Field(gt=0)  # step along the smile of stage interfacegan, in units of W; the paper takes 1.5
    pairs: int = Field(ge=2)  # pairs that are kept: those that the guide most surely calls opposite
    val_pairs: int = Field(ge=1)  # pairs among these that only measure
    residual: bool  # true: add the source to the output; false: the paper's network

    @model_validator(mode="after")
    def _pairs_fit(self) -> "DistillationParams":
        if self.pairs > self.samples:
            raise ValueError(f"pairs {self.pairs} must not exceed samples {self.samples}")
        if self.val_pairs >= self.pairs:
            raise ValueError(f"val_pairs {self.val_pairs} must leave some of the {self.pairs} pairs to learn from")
        return self


class MaskganParams(TranslationParams):
    """How MaskGAN is trained, and which mouth its smile takes. The paper's: styled_ups false; sizes: `sizes_of`."""

    learn_from: Literal["train", "pool", "none"]  # the split whose masks it learns from, or the method is left out
    styled_ups: bool  # true: the style drives the layers on the way up, too; false: the paper's network
    vae_kimg: float = Field(gt=0)  # masks seen by the autoencoder of masks, which simulates edits, in thousands
    parser_kimg: float = Field(gt=0)  # images seen by the network that reads masks from images, in thousands
    ebst_kimg: float = Field(ge=0)  # images of stage 2, with simulated edits, in thousands
    val_images: int = Field(ge=1)  # validation heads that are drawn and measured
    donors: int = Field(ge=1)  # training heads that are drawn; the most frontal one gives its mouth to every smile
