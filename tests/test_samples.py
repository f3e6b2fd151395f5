"""What samples are measured by, against brute force and cases whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from editgan.samples.measures import (
    PATH_EPSILON,
    blurred,
    nearest_images,
    noisy,
    perceptual_path_length,
    precision_and_recall,
)
from editgan.samples.stage import thousands


def brute_force(points, manifold, k):
    """The definition of Kynkaanniemi et al. 2019, equations 1 and 2, point by point."""
    inside = 0
    for point in points:
        for centre in manifold:
            to_others = np.sort(np.linalg.norm(manifold - centre, axis=1))[1:]
            if np.linalg.norm(point - centre) <= to_others[k - 1]:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_those_of_the_paper(k):
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40, 5)), 0.6 * rng.normal(size=(30, 5)) + 0.8
    expected = (brute_force(fake, real, k), brute_force(real, fake, k))
    found = precision_and_recall(torch.from_numpy(fake), torch.from_numpy(real), k)
    assert found == pytest.approx(expected) and 0 < found[0] != found[1] < 1


def test_precision_and_recall_tell_missing_modes_from_false_images():
    real = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    real[100:, 0] += 100.0
    one_mode = real[:100] + 0.01
    precision, recall = precision_and_recall(one_mode, real, 3)
    assert precision > 0.9 and 0.4 < recall < 0.6
    assert precision_and_recall(real + 1000.0, real, 3) == (0.0, 0.0)


def test_precision_and_recall_need_neighbours():
    with pytest.raises(ValueError, match="k = 3"):
        precision_and_recall(torch.zeros(3, 2), torch.zeros(9, 2), 3)


class Linear(nn.Module):
    """A generator whose image is w in every pixel: its path length is known."""

    z_dim, num_ws = 3, 2

    def mapping(self, z):
        return z.unsqueeze(1).repeat(1, self.num_ws, 1)

    def synthesis(self, ws, noise_mode):
        assert noise_mode == "const"
        return ws[:, 0, :, None, None].double().expand(-1, -1, 4, 4)


def path_length(distance, pairs=400, batch=64):
    rng = torch.Generator().manual_seed(0)
    return perceptual_path_length(Linear(), distance, pairs=pairs, batch=batch, device=torch.device("cpu"), rng=rng)


def squared(a, b):
    return (a - b).square().sum(dim=1).mean(dim=(1, 2))


def test_path_length_of_a_linear_generator_is_the_squared_distance_of_its_ends():
    """E |w1 - w2|^2 = 2 * 3 for independent N(0, 1); trimming the long tail lowers it a little."""
    assert path_length(squared, pairs=4000) == pytest.approx(6.0, rel=0.06)


def test_path_length_scales_with_the_square_of_the_step_and_not_with_the_batch():
    assert path_length(lambda a, b: 4 * squared(a, b)) == pytest.approx(4 * path_length(squared), rel=1e-6)
    assert path_length(lambda a, b: torch.full((len(a),), PATH_EPSILON**2), batch=7) == pytest.approx(1.0)


def test_nearest_image_is_found_mirrored_too():
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found, errors = nearest_images(torch.stack([images[7], images[31].flip(2)]), images)
    assert torch.equal(found[0], images[7]) and torch.equal(found[1], images[31].flip(2))
    assert errors.tolist() == [0.0, 0.0]


def test_spoilt_images_are_what_they_say():
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grey = torch.full_like(images, 128)
    assert torch.equal(blurred(grey), grey)
    dot = torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
    dot[..., 4, 4] = 255
    spread = blurred(dot)[0, 0].float()
    assert spread[4, 4] == pytest.approx(255 / (2 * np.pi), rel=0.02) and spread[4, 5] == spread[5, 4] < spread[4, 4]
    noise = (noisy(grey, torch.Generator().manual_seed(1)).float() - 128).std()
    assert 7.5 < noise < 8.5
    assert torch.equal(noisy(images, torch.Generator().manual_seed(1)), noisy(images, torch.Generator().manual_seed(1)))


def test_counts_in_names():
    assert [thousands(n) for n in (400, 5000, 1500)] == ["400", "5k", "1500"]
