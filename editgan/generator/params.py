"""Parameters of stage `generator`."""

from typing import Literal

from pydantic import Field, model_validator

from editgan.config import Section


class GeneratorParams(Section):
    """StyleGAN2 and its training."""

    recipe: int = Field(ge=1)
    w_dim: int = Field(ge=2)
    channel_base: int = Field(ge=8)
    channel_max: int = Field(ge=8)
    num_mapping_layers: int = Field(ge=1)
    loss: Literal["relativistic", "logistic"]
    discriminator: Literal["pixel", "stylegan2"]
    d_channel_base: int = Field(ge=8)
    d_channel_max: int | None = Field(ge=8)
    mbstd_group: int = Field(ge=1)
    projected_weight: float = Field(ge=0)
    projected_from_kimg: float = Field(ge=0)
    projected_width: int = Field(ge=4)
    start_from: str | None
    from_file: str | None
    start_from_sha256: str | None = Field(pattern="^[0-9a-f]{64}$")
    kimg: float = Field(ge=0.001)
    batch: int = Field(ge=1)
    g_lr: float = Field(gt=0)
    d_lr: float = Field(gt=0)
    lr_decay_from: float = Field(ge=0, le=1)
    noise: bool
    r1_gamma: float = Field(ge=0)
    r1_interval: int = Field(ge=1)
    pl_weight: float = Field(ge=0)
    pl_interval: int = Field(ge=1)
    style_mixing_prob: float = Field(ge=0, le=1)
    ada_target: float | None = Field(gt=-1, lt=1)
    ema_kimg: float = Field(gt=0)
    ema_kimg_end: float | None = Field(gt=0)
    ema_rampup: float = Field(gt=0)
    status_kimg: float = Field(ge=0.001)
    snapshot_kimg: float = Field(ge=0.001)
    state_kimg: float = Field(ge=0.001)
    kid_images: int = Field(ge=4)

    @model_validator(mode="after")
    def _consistent(self) -> "GeneratorParams":
        group = min(self.mbstd_group, self.batch)
        if self.batch % group:
            raise ValueError(f"batch {self.batch} must be a multiple of mbstd_group {self.mbstd_group}")
        for name in ("snapshot_kimg", "state_kimg"):
            ratio = getattr(self, name) / self.status_kimg
            if abs(ratio - round(ratio)) > 1e-6 or ratio < 0.5:
                raise ValueError(f"{name} {getattr(self, name)} must be a multiple of status_kimg {self.status_kimg}")
        if self.ada_target is not None and self.loss == "relativistic":
            raise ValueError(
                f"ada_target {self.ada_target} needs loss logistic: the relativistic loss compares real and generated"
                " images, so the sign of D on real images says nothing; set ada_target to null"
            )
        if self.from_file is not None and self.start_from is not None:
            raise ValueError("set start_from (to train on) or from_file (to use a generator as it is), not both")
        if self.from_file is None and (self.start_from is None) is not (self.start_from_sha256 is None):
            raise ValueError(
                "set both start_from and start_from_sha256, or neither; `sha256sum G_ema.safetensors` prints the hash"
            )
        return self
