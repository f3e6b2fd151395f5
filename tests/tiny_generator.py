"""A training of the generator at tiny size, for tests."""

from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn

from editgan.generator import train as train_module
from editgan.generator.parallel import Ranks
from editgan.generator.params import GeneratorParams
from editgan.generator.snapshots import Recorder
from editgan.runtime.tracking import offline_run

CPU = torch.device("cpu")
SIZE = 16
PARAMS = dict(
    recipe=1,
    w_dim=8,
    channel_base=64,
    channel_max=8,
    num_mapping_layers=2,
    loss="relativistic",
    discriminator="pixel",
    d_channel_base=64,
    mbstd_group=2,
    projected_weight=1.0,
    projected_from_kimg=0.032,
    projected_width=4,
    kimg=0.096,
    batch=8,
    g_lr=0.004,
    d_lr=0.004,
    lr_decay_from=0.5,
    noise=False,
    r1_gamma=2.0,
    r1_interval=2,
    pl_weight=0.0,
    pl_interval=4,
    style_mixing_prob=0.5,
    ada_target=None,
    ema_kimg=0.02,
    ema_kimg_end=0.04,
    ema_rampup=0.5,
    status_kimg=0.016,
    snapshot_kimg=0.048,
    state_kimg=0.016,
    kid_images=12,
    start_from=None,
    from_file=None,
    start_from_sha256=None,
    d_channel_max=None,
)
STYLEGAN2 = dict(
    loss="logistic", discriminator="stylegan2", projected_weight=0.0, noise=True, pl_weight=2.0, ada_target=-0.9
)
RECIPES = {"relativistic": {}, "stylegan2": STYLEGAN2}


class Features(nn.Module):
    """Stands in for LPIPS-VGG: small fixed random features."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weight", weight)

    def pooled(self, images):
        return F.conv2d(images, self.weight).relu().mean(dim=(2, 3))

    def forward(self, x, y):
        return (F.conv2d(x, self.weight) - F.conv2d(y, self.weight)).square().mean(dim=(1, 2, 3))


class Killed(Exception):
    pass


class Backbone(nn.Module):
    """Stands in for EfficientNet-Lite1: four fixed random maps at strides 4, 8, 16, 32 (of 32 px at least)."""

    channels = (4, 4, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.convs = nn.ModuleList(nn.Conv2d(3, channels, 3, padding=1, bias=False) for channels in self.channels)
        for conv in self.convs:
            nn.init.normal_(conv.weight, generator=rng)
        self.requires_grad_(False)

    def forward(self, images):
        pooled = [nn.functional.adaptive_avg_pool2d(images, max(SIZE // (4 << k), 1)) for k in range(4)]
        return [conv(x) for conv, x in zip(self.convs, pooled, strict=True)]


def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (20, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def run_training(folder, *, changes=None, kill_after=None, monkeypatch=None, ranks=Ranks(), light=None, origin=None):  # noqa: B008
    """Train in `folder`; with `kill_after`, die in the step after that many images."""
    params = GeneratorParams(**(PARAMS | (changes or {})))
    run = offline_run()
    if kill_after is not None:

        def progress(done, *_):
            if done * 1000 > kill_after:
                raise Killed

        monkeypatch.setattr(run, "progress", progress)
    recorder = Recorder(
        out=folder / "out", work=folder / "work", run=run, lpips_vgg=Features(), reals=pictures(), seed=3,
        kid_images=params.kid_images, device=CPU,
    )  # fmt: skip
    with patch.object(train_module, "ADA_KIMG", 0.05):
        networks = train_module.train(
            ranks,
            params=params,
            resolution=SIZE,
            seed=3,
            images=pictures(),
            backbone=Backbone() if params.projected_weight else None,
            device=CPU,
            precision="float32",
            folder=folder / "work",
            light=light,
            origin=origin,
            recorder=recorder,
        )
    return networks, recorder
