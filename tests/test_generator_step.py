"""One step of the adversarial phase against the same step written out: what each loss sees, and what it moves."""

import copy

import pytest
import torch
import torch.nn.functional as F
from test_generator_training import PARAMS, Features

from editgan.generator import train as train_module
from editgan.generator import warm_start as first_phase
from editgan.generator.augment import augment
from editgan.generator.discriminator import Discriminator
from editgan.generator.generator import Generator
from editgan.generator.losses import draw_latents, mixed_ws
from editgan.generator.params import GeneratorParams
from editgan.generator.principal_components import PrincipalComponents
from editgan.generator.snapshots import Recorder
from editgan.generator.train import PL_DECAY, Task, adversarial
from editgan.generator.warm_start import BandLoss
from editgan.runtime.tracking import offline_run
from editgan.training import load_state, seed_everything
from editgan.weights import tensors_equal

SEED, P, PL_MEAN, SIGNS = 3, 0.6, 0.05, [1.0, 1.0, -1.0]
START = 24  # images of the warm start before
CPU = torch.device("cpu")
CHANGES = dict(
    kimg=0.004,  # one batch
    status_kimg=0.004,
    snapshot_kimg=0.004,
    state_kimg=0.004,
    d_first_kimg=0.0,
    r1_interval=1,
    pl_interval=1,
)


@pytest.fixture
def params(monkeypatch):
    monkeypatch.setattr(first_phase, "BAND_WEIGHT", 0.0)
    monkeypatch.setattr(train_module, "mixed_precision", lambda device: torch.autocast("cpu", enabled=False))
    return GeneratorParams(**(PARAMS | CHANGES))


@pytest.fixture
def task(params, tmp_path):
    images = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    code = PrincipalComponents(img_resolution=16, w_dim=params.w_dim)
    code.fit(images / 127.5 - 1)
    run = offline_run()
    recorder = Recorder(
        out=tmp_path, work=tmp_path, run=run, lpips_vgg=Features(), reals=images, seed=SEED, kid_images=10, device=CPU,
        history=[],
    )  # fmt: skip
    return Task(
        params=params, resolution=16, seed=SEED, images=images, lpips_vgg=Features(), code=code,
        bands=BandLoss(img_resolution=16), device=CPU, work=tmp_path, recorder=recorder, run=run,
        compile=lambda module: module,
    )  # fmt: skip


@pytest.fixture
def networks(params):
    """G and D; the noise has strength, or it would not count."""
    generator = Generator(
        z_dim=8, w_dim=8, img_resolution=16, channel_base=64, channel_max=8, num_mapping_layers=2
    )  # fmt: skip
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return generator, Discriminator(img_resolution=16, channel_base=64, channel_max=8, mbstd_group=2)


def adam(parameters, rate):
    """With one regularising step a step: half the rate, and the root of each beta (StyleGAN2, appendix B)."""
    return torch.optim.Adam(parameters, lr=rate / 2, betas=(0.0, 0.99**0.5))


def move(loss, optimizer):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def step_written_out(params, task, generator, discriminator, g_adam, d_adam):
    """StyleGAN2's step from its publication, with the anchors: G, path lengths, D, R1, EMA.

    Returns:
        (G_ema, the new mean of path lengths, r_t).
    """
    slow = copy.deepcopy(generator)
    seed_everything(SEED, "generator", "adversarial", START)
    real = task.real_batch(START, 4)

    ws = mixed_ws(generator, *draw_latents(generator, 2, params.style_mixing_prob))
    codes = task.code.noisy(real[:2])
    fake = generator.synthesis(torch.cat([codes[:, None].expand(-1, generator.num_ws, -1), ws]), noise_mode="random")
    fooled = F.softplus(-discriminator(augment(fake, P))).mean()
    l1, l2 = (fake[:2] - real[:2]).abs().mean(), (fake[:2] - real[:2]).square().mean()
    move(fooled + first_phase.ANCHOR_WEIGHT * first_phase.PIXEL_WEIGHT * (l1 + l2), g_adam)

    ws = mixed_ws(generator, *draw_latents(generator, 2, params.style_mixing_prob))
    images = generator.synthesis(ws, noise_mode="random")
    directions = torch.randn(images.shape) / 16  # 16x16 pixels
    (jacobian,) = torch.autograd.grad((images * directions).sum(), ws, create_graph=True)
    lengths = jacobian.square().sum(2).mean(1).sqrt()
    pl_mean = PL_MEAN + PL_DECAY * (float(lengths.detach().mean()) - PL_MEAN)
    move(params.pl_weight * (lengths - pl_mean).square().mean(), g_adam)

    real_logits = discriminator(augment(real, P))
    fake_logits = discriminator(augment(fake.detach(), P))
    move(F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean(), d_adam)

    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(augment(real, P)).sum(), real, create_graph=True)
    move(params.r1_gamma / 2 * gradient.square().sum((1, 2, 3)).mean(), d_adam)

    with torch.no_grad():  # a half-life of half the 4 images seen: 0.5^(4 / 2) of G_ema stays
        for old, new in zip(slow.parameters(), generator.parameters(), strict=True):
            old.copy_(0.25 * old + 0.75 * new)
    return slow, pl_mean, real_logits.sign().mean().item()


def optimizers(params, generator, discriminator):
    noise = [p for name, p in generator.named_parameters() if name.endswith("noise_strength")]
    others = [p for name, p in generator.named_parameters() if not name.endswith("noise_strength")]
    g_adam = adam([{"params": others}, {"params": noise}], params.g_lr)
    g_adam.param_groups[1]["lr"] *= params.noise_lr_multiplier
    return g_adam, adam([{"params": list(discriminator.parameters())}], params.d_lr)


def test_step_is_the_one_written_out(params, task, networks, monkeypatch):
    generator, discriminator = networks
    mine = copy.deepcopy(networks)
    g_adam, d_adam = optimizers(params, *mine)
    slow, pl_mean, r_t = step_written_out(params, task, *mine, g_adam, d_adam)

    seen = []
    monkeypatch.setattr(train_module, "augment", lambda images, p: seen.append((images, p)) or augment(images, p))
    fresh = train_module.lazy_adam
    state = dict(
        cur_nimg=START, pl_mean=torch.tensor(PL_MEAN), augment_p=P, augment_signs=list(SIGNS),
        G=generator.state_dict(), G_ema=generator.state_dict(), D=discriminator.state_dict(),
        g_optimizer=fresh([g_adam.param_groups[0]["params"], g_adam.param_groups[1]["params"]], 1).state_dict(),
        d_optimizer=fresh([list(discriminator.parameters())], 1).state_dict(),
    )  # fmt: skip
    generator_ema, critic = adversarial(task, generator, state)

    for ours, written in ((generator, mine[0]), (critic, mine[1]), (generator_ema, slow)):
        theirs = dict(written.named_parameters())
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(
                parameter, theirs[name], atol=2e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
            )
    assert not tensors_equal(generator.state_dict(), generator_ema.state_dict())
    left = load_state(task.work)
    assert float(left["pl_mean"]) == pytest.approx(pl_mean, rel=1e-5)
    moved = 4 * 4 / (params.ada_kimg * 1000)  # four batches of four images
    p = P + moved if (sum(SIGNS) + r_t) / 4 > params.ada_target else P - moved
    assert left["augment_p"] == pytest.approx(p) and P < p < 1
    assert left["augment_signs"] == []

    assert [p for _, p in seen] == [P] * 4, "G's fakes, D's reals and fakes, R1's reals"
    fakes, reals, same_fakes, same_reals = (images for images, _ in seen)
    assert fakes.requires_grad and not same_fakes.requires_grad and torch.equal(fakes, same_fakes)
    assert torch.equal(reals, same_reals) and torch.equal(reals, task.real_batch(START, 4))


@pytest.mark.parametrize(
    ("name", "value"), [("r1_gamma", 2.0), ("pl_weight", 4.0), ("ANCHOR_WEIGHT", 2.0), ("noise_lr_multiplier", 0.2)]
)
def test_comparison_sees_every_weight(params, task, networks, name, value, monkeypatch):
    """The step written out moves elsewhere with another weight: none of them is lost in the tolerance."""
    moved = []
    for changed in (params, params if name.isupper() else params.model_copy(update={name: value})):
        if moved and name.isupper():
            monkeypatch.setattr(first_phase, name, value)
        mine = copy.deepcopy(networks)
        step_written_out(changed, task, *mine, *optimizers(changed, *mine))
        moved.append(torch.cat([p.detach().flatten() for module in mine for p in module.parameters()]))
    assert (moved[0] - moved[1]).abs().max() > 1e-4
