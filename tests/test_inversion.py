"""Inversion: it finds sampled latents' images, keeps the best iterate of each image, and images do not interact."""

import math

import pytest
import torch
from test_encoder import StandInLpips, tiny_encoder, tiny_generator

from editgan.encoder.inversion import invert, lr_at
from editgan.encoder.losses import l2_distance, reconstruction_loss


@pytest.fixture(scope="module")
def nets():
    G = tiny_generator()
    return G, tiny_encoder(G).eval().requires_grad_(False), StandInLpips()


def sampled(G, count, seed=4):
    with torch.no_grad():
        ws = G.mapping(torch.randn(count, G.z_dim, generator=torch.Generator().manual_seed(seed)))
        return G.synthesis(ws)


def loss_of(nets, w_plus, images):
    G, _, lpips = nets
    with torch.no_grad():
        fakes = G.synthesis(w_plus)
        return reconstruction_loss(lpips(fakes, images), l2_distance(fakes, images))


def test_recovers_images_of_sampled_latents(nets):
    G, E, lpips = nets
    images = sampled(G, 4)
    before = l2_distance(G.synthesis(E(images)), images)
    w_plus = invert(G, E, lpips, images, steps=100, batch=4, lr=0.1)
    assert w_plus.shape == (4, G.num_ws, G.w_dim) and not w_plus.requires_grad
    after = l2_distance(G.synthesis(w_plus), images)
    assert (after < 0.1 * before).all()


def test_no_step_returns_the_guess_of_the_encoder(nets):
    G, E, lpips = nets
    images = sampled(G, 2)
    assert torch.equal(invert(G, E, lpips, images, steps=0), E(images))


@pytest.mark.parametrize("lr", [0.05, 50.0])
def test_never_worse_than_the_encoder(nets, lr):
    """A rate that throws latents far away still leaves each image its best iterate, here the first."""
    G, E, lpips = nets
    images = sampled(G, 3)
    w_plus = invert(G, E, lpips, images, steps=5, lr=lr)
    assert (loss_of(nets, w_plus, images) <= loss_of(nets, E(images), images) * (1 + 1e-5)).all()


def test_pull_holds_latents_near_what_the_encoder_says(nets):
    G, E, lpips = nets
    images = sampled(G, 3)
    free, held = (invert(G, E, lpips, images, steps=20, pull=weight) for weight in (0, 10))

    def distance(w_plus):
        return (w_plus - E(images)).square().mean((1, 2))

    assert (distance(held) < 0.5 * distance(free)).all()
    assert (loss_of(nets, held, images) < loss_of(nets, E(images), images)).all()


def test_identity_term_brings_the_features_of_a_face_network_nearer(nets):
    G, E, lpips = nets
    images = sampled(G, 3)

    def identity(images):
        return images[:, 0, 4:12, 4:12].flatten(1)  # [N, 64]

    def likeness(w_plus):
        return torch.cosine_similarity(identity(G.synthesis(w_plus)), identity(images))

    free, held = (invert(G, E, lpips, images, steps=40, identity=identity, identity_weight=w) for w in (0, 10))
    assert likeness(held).mean() > likeness(free).mean()
    assert torch.equal(free, invert(G, E, lpips, images, steps=40))
    with pytest.raises(ValueError, match="no identity network was given"):
        invert(G, E, lpips, images, steps=20, identity_weight=1.0)


def test_best_iterate_is_kept_per_image(nets):
    """One image already at its optimum keeps its start while its neighbour moves."""
    G, E, lpips = nets
    perfect = G.synthesis(E(torch.zeros(1, 3, 16, 16))).detach()  # E is constant: this image's start is exact
    images = torch.cat([perfect, sampled(G, 1)])
    start = E(images)
    w_plus = invert(G, E, lpips, images, steps=10)
    assert torch.equal(w_plus[0], start[0]) and not torch.equal(w_plus[1], start[1])


def test_last_iterate_counts(nets):
    """With one step the result is the step's, not the start, when it is better."""
    G, E, lpips = nets
    images = sampled(G, 2)
    w_plus = invert(G, E, lpips, images, steps=1, lr=1e-3)
    assert (loss_of(nets, w_plus, images) < loss_of(nets, E(images), images)).all()


def test_result_does_not_depend_on_the_batch(nets):
    """In float64, where rounding cannot grow over the steps; in float32 the losses agree."""
    G, E, lpips = nets
    images = sampled(G, 3)
    doubles = [net.double() for net in (tiny_generator(), tiny_encoder(tiny_generator()))]
    results = [invert(*doubles, lpips, images.double(), steps=8, batch=batch) for batch in (3, 2, 1)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(results[0], results[2], rtol=1e-6, atol=1e-6)
    losses = [loss_of(nets, invert(G, E, lpips, images, steps=8, batch=b), images) for b in (3, 1)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-2, atol=1e-5)


def test_networks_stay_as_they_are(nets):
    G, E, lpips = nets
    before = {name: tensor.clone() for name, tensor in G.state_dict().items()}
    invert(G, E, lpips, sampled(G, 2), steps=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in G.state_dict().items())
    assert all(p.grad is None for p in [*G.parameters(), *E.parameters()])


def test_progress_counts_images(nets):
    G, E, lpips = nets
    seen = []
    invert(G, E, lpips, sampled(G, 5), steps=1, batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_wrong_images_are_named(nets):
    G, E, lpips = nets
    with pytest.raises(ValueError, match=r"\[N, 3, 16, 16\].*\[1, 3, 8, 8\]"):
        invert(G, E, lpips, torch.zeros(1, 3, 8, 8), steps=1)
    with pytest.raises(ValueError, match="NaN"):
        invert(G, E, lpips, torch.full((1, 3, 16, 16), math.nan), steps=1)


def test_ramps_of_the_learning_rate():
    rates = [lr_at(step, 100, 0.1) for step in range(100)]
    assert rates[:5] == pytest.approx([0.01, 0.03, 0.05, 0.07, 0.09])
    assert rates[5:75] == pytest.approx([0.1] * 70)
    assert all(a > b for a, b in zip(rates[75:], rates[76:], strict=False)) and rates[-1] < 1e-3
