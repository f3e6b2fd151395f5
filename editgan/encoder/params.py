"""Parameters of stage `encoder`."""

from pydantic import Field, model_validator

from editgan.config import Section


class EncoderParams(Section):
    """Training of E, and embedding with it."""

    recipe: int = Field(ge=1)
    channel_base: int = Field(ge=8)
    channel_max: int = Field(ge=4)  # Muon trains no narrower matrices
    pyramid_width: int = Field(ge=4)
    kimg: float = Field(ge=0.001)
    warmup_kimg: float = Field(ge=0)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    val_images: int = Field(ge=1)
    inversion_steps: int = Field(ge=0)
    inversion_lr: float = Field(gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> "EncoderParams":
        if self.warmup_kimg > self.kimg:
            raise ValueError(f"warmup_kimg ({self.warmup_kimg}) must not exceed kimg ({self.kimg})")
        return self
