"""The `generator` section of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from editgan.section import Section


class WarmStartParams(Section):
    """Phase 1: the synthesis network as the decoder of principal components, growing from low resolution."""

    kimg: tuple[Annotated[float, Field(gt=0)], ...]  # at rising resolutions, the last at the full one; () leaves it out


class GeneratorParams(Section):
    """StyleGAN2 and its training. Counts are images, in thousands (kimg)."""

    recipe: int = Field(ge=1)  # raise it when a code change should change the trained generator
    w_dim: int = Field(ge=2)  # size of z and of w; the warm start fills it with principal components
    channel_base: int = Field(ge=8)  # width of G: a map at resolution r has min(channel_base / r, channel_max) channels
    channel_max: int = Field(ge=8)  # largest number of channels of a map of G
    num_mapping_layers: int = Field(ge=1)  # layers from z to w
    loss: Literal["relativistic", "logistic"] = "logistic"  # pairing loss with R1 and R2, or StyleGAN2's with R1
    discriminator: Literal["pixel", "stylegan2"] = "stylegan2"
    d_channel_base: int = Field(ge=8)  # channel_base of D
    d_channel_max: int | None = Field(default=None, ge=8)  # channel_max of D; null: the one of G
    mbstd_group: int = Field(ge=1)  # images in a group of D's minibatch standard deviation
    projected_weight: float = Field(default=0, ge=0)  # weight of the projected discriminator in G's loss; 0: none
    projected_from_kimg: float = Field(default=0, ge=0)  # images before it sets in, in thousands
    projected_width: int = Field(default=64, ge=4)  # channels of its mixed features
    projected_lr: float = Field(default=2e-4, gt=0)  # rate of its Adam
    kimg: float = Field(gt=0)  # images of the adversarial phase, in thousands
    batch: int = Field(ge=1)  # images a step, over all processes
    g_lr: float = Field(gt=0)  # rate of G's Adam
    d_lr: float = Field(gt=0)  # rate of D's Adam
    lr_decay_from: float = Field(ge=0, le=1)  # part of the phase after which both rates fall to a tenth
    noise: bool = True  # noise inputs of G
    r1_gamma: float = Field(ge=0)  # weight of the gradient penalties
    r1_interval: int = Field(ge=1)  # steps from one penalty to the next
    pl_weight: float = Field(ge=0)  # weight of the path length regularisation
    pl_interval: int = Field(ge=1)  # steps from one regularisation to the next
    style_mixing_prob: float = Field(ge=0, le=1)  # share of fakes that are made of two latents
    ada_target: float | None = Field(gt=-1, lt=1)  # r_t that adaptive augmentation holds; null: none
    ada_kimg: float = Field(gt=0)  # images in thousands in which its probability can rise from 0 to 1
    ema_kimg: float = Field(gt=0)  # half-life of G_ema, in thousands of images
    ema_kimg_end: float | None = Field(default=None, gt=0)  # half-life at the end of the decay; null: the same
    ema_rampup: float = Field(gt=0)  # largest half-life, as a part of the images seen
    mirror: bool  # show every image flipped half of the time
    status_kimg: float = Field(gt=0)  # images in thousands from one line of stats.jsonl to the next
    snapshot_kimg: float = Field(gt=0)  # images in thousands from one sample grid and KID to the next
    state_kimg: float = Field(gt=0)  # images in thousands between two complete states, a multiple of status_kimg
    kid_images: int = Field(ge=4)  # images behind KID

    # The old way, which the default run keeps until its generator is exchanged.
    warm_start: WarmStartParams | None = None
    start_from: str | None = None  # folder of another run's G_ema, D and code to begin with (docs/data.md)
    start_from_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")  # hash of its G_ema.safetensors
    anchor_images: int = Field(default=0, ge=0)  # fakes of each batch that reconstruct real images; 0: none
    noise_lr_multiplier: float = Field(default=1, ge=0)  # factor on g_lr for the noise's strengths
    d_first_kimg: float = Field(default=0, ge=0)  # images in thousands during which D learns alone

    @model_validator(mode="after")
    def _consistent(self) -> "GeneratorParams":
        group = min(self.mbstd_group, self.batch)
        if self.batch % group:
            raise ValueError(f"batch {self.batch} must be a multiple of mbstd_group {self.mbstd_group}")
        for name in ("snapshot_kimg", "state_kimg"):
            ratio = getattr(self, name) / self.status_kimg
            if abs(ratio - round(ratio)) > 1e-6 or ratio < 0.5:
                raise ValueError(f"{name} {getattr(self, name)} must be a multiple of status_kimg {self.status_kimg}")
        if self.warm_start is not None:
            self._consistent_warm_start(self.warm_start)
        return self

    def _consistent_warm_start(self, warm_start: WarmStartParams) -> None:
        if warm_start.kimg and self.num_mapping_layers % 2:
            raise ValueError(
                f"num_mapping_layers {self.num_mapping_layers} must be even with a warm start, which fits pairs of "
                "layers; choose an even number or set warm_start.kimg to []"
            )
        if self.anchor_images >= self.batch:
            raise ValueError(f"anchor_images {self.anchor_images} must be less than batch {self.batch}")
        if self.anchor_images and not warm_start.kimg and self.start_from is None:
            raise ValueError(f"anchor_images {self.anchor_images} needs a warm start; set it to 0 without one")
        if self.start_from is not None and len(warm_start.kimg) > 1:
            raise ValueError(
                f"start_from {self.start_from} is grown already; set warm_start.kimg to [] or to one number, which is"
                " spent at the full resolution"
            )
        if (self.start_from is None) is not (self.start_from_sha256 is None):
            raise ValueError(
                "start_from and start_from_sha256 belong together; `sha256sum` of its G_ema.safetensors tells"
            )
