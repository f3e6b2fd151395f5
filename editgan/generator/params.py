"""The `generator` section of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from editgan.section import Section


class WarmStartParams(Section):
    """Phase 1: the synthesis network as the decoder of principal components, growing from low resolution."""

    kimg: tuple[Annotated[float, Field(gt=0)], ...]  # at rising resolutions, the last at the full one; () leaves it out


class GeneratorParams(Section):
    """StyleGAN2 and its training. Counts are images, in thousands (kimg)."""

    recipe: int = Field(ge=1)  # raised by hand when a change of code should change the trained model
    w_dim: int = Field(ge=2)  # also the size of z
    channel_base: int = Field(ge=8)
    channel_max: int = Field(ge=8)
    num_mapping_layers: int = Field(ge=1)
    loss: Literal["relativistic", "logistic"] = "logistic"  # pairing loss with R1 and R2, or StyleGAN2's with R1
    discriminator: Literal["pixel", "stylegan2"] = "stylegan2"
    d_channel_base: int = Field(ge=8)
    d_channel_max: int | None = Field(default=None, ge=8)  # None: channel_max
    mbstd_group: int = Field(ge=1)
    projected_weight: float = Field(default=0, ge=0)  # of the projected discriminator in G's loss; 0 leaves it out
    projected_from_kimg: float = Field(default=0, ge=0)  # it sets in here: from the first image on, shapes collapse
    projected_width: int = Field(default=64, ge=4)  # channels of its mixed features
    projected_lr: float = Field(default=2e-4, gt=0)
    kimg: float = Field(gt=0)  # of the adversarial phase
    batch: int = Field(ge=1)  # over all processes
    g_lr: float = Field(gt=0)
    d_lr: float = Field(gt=0)
    lr_decay_from: float = Field(ge=0, le=1)  # part of the training after which both rates fall to a tenth
    noise: bool = True  # noise inputs
    r1_gamma: float = Field(ge=0)  # of the gradient penalties
    r1_interval: int = Field(ge=1)  # steps
    pl_weight: float = Field(ge=0)
    pl_interval: int = Field(ge=1)  # steps
    style_mixing_prob: float = Field(ge=0, le=1)
    ada_target: float | None = Field(gt=-1, lt=1)  # of r_t, held by adaptive augmentation; None: no augmentation
    ada_kimg: float = Field(gt=0)  # in which its probability can rise from 0 to 1
    ema_kimg: float = Field(gt=0)  # half-life of G_ema ...
    ema_kimg_end: float | None = Field(default=None, gt=0)  # ... and at the end of the decay; None: the same
    ema_rampup: float = Field(gt=0)
    mirror: bool  # show every image flipped half of the time
    status_kimg: float = Field(gt=0)  # one line of stats.jsonl
    snapshot_kimg: float = Field(gt=0)  # fakes and KID
    state_kimg: float = Field(gt=0)  # resumable state, a multiple of status_kimg
    kid_images: int = Field(ge=4)

    # The old way, which the default run keeps until its generator is exchanged.
    warm_start: WarmStartParams | None = None
    start_from: str | None = None  # folder of another run's G_ema, D and code to begin with ...
    start_from_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")  # ... and the hash of its G_ema
    anchor_images: int = Field(default=0, ge=0)  # fakes of each batch that reconstruct real images; 0: none
    noise_lr_multiplier: float = Field(default=1, ge=0)  # of the noise strengths
    d_first_kimg: float = Field(default=0, ge=0)  # the discriminator learns alone this long

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
