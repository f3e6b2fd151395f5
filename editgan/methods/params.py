"""Parameters of the stages of `editgan.methods`. The strengths of the methods are in section `scoring`."""

from typing import Literal

from pydantic import Field, model_validator

from editgan.config import Section


class InterfaceganParams(Section):
    """Search for the direction."""

    recipe: int = Field(ge=1)
    samples: int = Field(ge=200)
    condition_heads: int = Field(ge=200)


class LocaleditingParams(Section):
    """Search for the channels of the mouth."""

    recipe: int = Field(ge=1)
    samples: int = Field(ge=16)
    references: int = Field(ge=1)
    rho: tuple[float, ...] = Field(min_length=1)
    epsilon: tuple[float, ...] = Field(min_length=1)


class TranslationParams(Section):
    """Training of an image-to-image network."""

    recipe: int = Field(ge=1)
    width: int = Field(ge=4)
    kimg: float = Field(ge=0.001)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    d_lr: float = Field(gt=0)
    vgg_images: int = Field(ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "TranslationParams":
        if self.vgg_images > self.batch:
            raise ValueError(f"vgg_images {self.vgg_images} must not exceed batch {self.batch}")
        return self


class DistillationParams(TranslationParams):
    """Selection of pairs, and training of pix2pixHD on them."""

    samples: int = Field(ge=4)
    step: float = Field(gt=0)
    pairs: int = Field(ge=2)
    val_pairs: int = Field(ge=1)
    residual: bool

    @model_validator(mode="after")
    def _pairs_fit(self) -> "DistillationParams":
        if self.pairs > self.samples:
            raise ValueError(f"pairs {self.pairs} must not exceed samples {self.samples}")
        if self.val_pairs >= self.pairs:
            raise ValueError(f"val_pairs {self.val_pairs} must leave some of the {self.pairs} pairs for training")
        return self


class MaskganParams(TranslationParams):
    """Training of MaskGAN, and the mouth of its smile. Other network sizes are in `maskgan.networks.sizes_of`."""

    learn_from: Literal["train", "pool", "none"]
    styled_ups: bool
    vae_kimg: float = Field(ge=0.001)
    parser_kimg: float = Field(ge=0.001)
    ebst_kimg: float = Field(ge=0)
    val_images: int = Field(ge=1)
    donors: int = Field(ge=1)
