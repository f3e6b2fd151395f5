"""Parameters of stage `generator`."""

from typing import Literal

from pydantic import Field, model_validator

from editgan.section import Section


class GeneratorParams(Section):
    """StyleGAN2 and its training. Training lengths and intervals are in kimg: thousands of images."""

    recipe: int = Field(ge=1)  # increase it if a code change should change the trained generator
    w_dim: int = Field(ge=2)  # size of z and w
    channel_base: int = Field(ge=8)  # width of G: min(channel_base / r, channel_max) channels at resolution r
    channel_max: int = Field(ge=8)  # maximum number of channels of G
    num_mapping_layers: int = Field(ge=1)  # layers of the mapping network from z to w
    loss: Literal["relativistic", "logistic"]  # pairing loss with R1 and R2, or StyleGAN2 with R1
    discriminator: Literal["pixel", "stylegan2"]  # pixel: unshuffles 2x2 pixels, average pooling
    d_channel_base: int = Field(ge=8)  # channel_base of D
    d_channel_max: int | None = Field(ge=8)  # channel_max of D; null: as in G
    mbstd_group: int = Field(ge=1)  # images per group of D's minibatch standard deviation
    projected_weight: float = Field(ge=0)  # weight of the projected discriminator in G's loss; 0: none
    projected_from_kimg: float = Field(ge=0)  # the projected discriminator starts after this many kimg
    projected_width: int = Field(ge=4)  # channels of its mixed feature maps
    start_from: str | None  # folder with G_ema and D of another run, for fine-tuning; null: from scratch
    start_from_sha256: str | None = Field(pattern="^[0-9a-f]{64}$")  # SHA-256 of its G_ema.safetensors
    kimg: float = Field(gt=0)  # length of the training in kimg
    batch: int = Field(ge=1)  # images per step, over all processes
    g_lr: float = Field(gt=0)  # learning rate of G's Adam
    d_lr: float = Field(gt=0)  # learning rate of D's Adam
    lr_decay_from: float = Field(ge=0, le=1)  # fraction of the training after which both rates decay to a tenth
    noise: bool  # noise inputs of G
    r1_gamma: float = Field(ge=0)  # weight of the gradient penalties
    r1_interval: int = Field(ge=1)  # steps between gradient penalties
    pl_weight: float = Field(ge=0)  # weight of path length regularisation
    pl_interval: int = Field(ge=1)  # steps between path length penalties
    style_mixing_prob: float = Field(ge=0, le=1)  # fraction of fakes that are generated from two latents
    ada_target: float | None = Field(gt=-1, lt=1)  # target r_t (mean sign of D on reals) of ADA; null: off
    ema_kimg: float = Field(gt=0)  # half-life of G_ema in kimg
    ema_kimg_end: float | None = Field(gt=0)  # half-life at the end of the lr decay; null: constant
    ema_rampup: float = Field(gt=0)  # maximum half-life of G_ema, as a fraction of the images seen
    status_kimg: float = Field(gt=0)  # kimg between lines of stats.jsonl
    snapshot_kimg: float = Field(gt=0)  # kimg between sample grids with KID; a multiple of status_kimg
    state_kimg: float = Field(gt=0)  # kimg between complete training states; a multiple of status_kimg
    kid_images: int = Field(ge=4)  # images for KID

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
        if (self.start_from is None) is not (self.start_from_sha256 is None):
            raise ValueError(
                "set both start_from and start_from_sha256, or neither; `sha256sum G_ema.safetensors` prints the hash"
            )
        return self
