"""Parameters of stage `encoder`."""

from pydantic import Field, model_validator

from editgan.section import Section


class EncoderParams(Section):
    """How E is trained, and how images are embedded with it. All counts are images or steps."""

    recipe: int = Field(ge=1)  # raise it when a code change should change the trained encoder
    channel_base: int = Field(ge=1)  # width of the trunk: min(channel_base / r, channel_max) channels at resolution r
    channel_max: int = Field(ge=1)  # largest number of channels of the trunk; also the channels of the heads
    pyramid_width: int = Field(ge=1)  # channels of the feature pyramid
    kimg: float = Field(gt=0)  # images seen, in thousands: samples and real ones
    warmup_kimg: float = Field(ge=0)  # images at the start, in thousands, that are samples with known latents only
    batch: int = Field(ge=1)  # images a step
    lr: float = Field(gt=0)  # rate of Muon, a tenth of it for Adam; falls to 0 along a half cosine
    val_images: int = Field(ge=1)  # validation heads that are embedded and measured
    inversion_steps: int = Field(ge=0)  # steps of Adam in W+ after the encoder's guess; the paper takes 500
    inversion_lr: float = Field(gt=0)  # peak of its rate

    @model_validator(mode="after")
    def _consistent(self) -> "EncoderParams":
        if self.warmup_kimg > self.kimg:
            raise ValueError(f"warmup_kimg ({self.warmup_kimg}) must not exceed kimg ({self.kimg})")
        return self
