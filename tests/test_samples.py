"""What samples are measured by, against brute force and cases whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from editgan.data.archive import encode_image, write_archive
from editgan.metrics import precision_and_recall
from editgan.samples import stage as samples_stage
from editgan.samples.measures import (
    PATH_EPSILON,
    blurred,
    nearest_images,
    noisy,
    perceptual_path_length,
)
from editgan.samples.report import Measure, report
from editgan.samples.stage import compare, heads_apart, judge, nearest, standardised_by


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
    names = [Measure("kid", count, "alexnet").name for count in (400, 5000, 1500)]
    assert names == ["kid400_alexnet", "kid5k_alexnet", "kid1500_alexnet"]
    assert Measure("samples_l2_to_nearest", 16).name == "samples_l2_to_nearest16"


class Pixels(nn.Module):
    """In place of a judging network: its features are the means of the channels, which sees a face where it is red."""

    def forward(self, x):
        return x.mean((2, 3))

    def detect(self, x):
        return (x[:, 0].mean((1, 2)) + 1) / 2, None

    def spread(self, x):
        return torch.cat([x.mean((2, 3)), x.std((2, 3)), torch.ones(len(x), 1)], 1)

    def smile(self, x):
        return (x[:, 1].mean((1, 2)) + 1) / 2


@pytest.fixture
def context(tmp_path, monkeypatch):
    """A stage's context over a folder of two archives, with `Pixels` for every network."""
    monkeypatch.setattr(samples_stage, "load_network", lambda name, folder: Pixels())
    monkeypatch.setattr(samples_stage, "JUDGED_IMAGES", 10)
    monkeypatch.setattr(samples_stage, "BATCH", 7)
    params = SimpleNamespace(images=60)
    shown = []
    run = SimpleNamespace(progress=lambda *arguments: shown.append(arguments))
    archive(tmp_path / "test.zip", heads_of(0, 110))
    archive(tmp_path / "test_smiling.zip", heads_of(40, 110))
    return SimpleNamespace(
        params=SimpleNamespace(samples=params, seed=0), device=torch.device("cpu"), out=tmp_path, run=run,
        input=lambda stage: tmp_path, shown=shown,
    )  # fmt: skip


def archive(path, images):
    write_archive(path, [encode_image(image.permute(1, 2, 0).numpy()) for image in images])


def heads_of(low, high, count=60):
    return torch.randint(low, high, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(low))


def test_rows_are_compared_with_the_reference_and_with_nothing_else(context):
    reference = heads_of(0, 256)
    rows = {"same": reference.clone(), "others": heads_of(1, 256), "dark": heads_of(0, 100)}
    figures = compare(reference, rows, context)
    kinds = ("efflite0", "alexnet")
    measures = {Measure(name, 60, kind) for kind in kinds for name in ("fid", "kid", "precision", "recall")}
    assert all(of.keys() == measures for of in figures.values())
    for kind in kinds:
        fid, kid, precision, recall = (Measure(name, 60, kind) for name in ("fid", "kid", "precision", "recall"))
        assert figures["same"][fid] == pytest.approx(0, abs=1e-6)
        assert figures["same"][precision] == figures["same"][recall] == 1
        assert figures["others"][precision] > 0.5 > figures["dark"][precision] == 0
        assert figures["dark"][fid] > 100 * figures["others"][fid]
        assert figures["dark"][kid] > figures["others"][kid]
    done = [step for step, *_ in context.shown]
    assert done == sorted(done) and done[-1] == context.shown[-1][1] == 2 * 4 * 60, "one bar for all rows"


def test_standardised_features_have_unit_deviation_and_drop_constant_ones():
    reference = torch.randn(500, 4, dtype=torch.float64) * torch.tensor([1.0, 1e-4, 30.0, 0.0]) + 5
    scaled = standardised_by(reference)(reference)
    assert scaled.shape == (500, 2)
    torch.testing.assert_close(scaled.std(0), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)


def test_judges_count_faces_and_smiles(context):
    images = torch.zeros(10, 3, 16, 16, dtype=torch.uint8)
    images[:7, 0] = 200
    images[:3, 1] = 200
    assert judge(images, "some", context) == {
        ("face", 10, "blazeface"): 70.0, ("smiling", 10, "face_api_expression"): 30.0, ("smiling", 10, "fer"): 30.0,
    }  # fmt: skip


def test_distance_of_neutral_and_smiling_heads_is_that_of_their_archives(context):
    apart, kid = heads_apart(context), Measure("kid", 60, "efflite0")
    assert apart.keys() == {"neutral_to_smiling"}
    assert apart["neutral_to_smiling"][kid] > 0.001
    archive(context.out / "test_smiling.zip", heads_of(0, 110))
    assert heads_apart(context)["neutral_to_smiling"][kid] < 0.001


def test_copies_show_themselves(context):
    """One sample that is a training image mirrored: nothing in the mean gives it away, the least does."""
    training, samples = heads_of(1, 256), heads_of(2, 256, count=4)
    samples[2] = training[11].flip(2)
    found = nearest(samples, training, context)["copies"]
    found = {one.name: value for one, value in found.items()}
    assert found["samples_least_l2_to_nearest4"] == 0 < found["samples_l2_to_nearest4"]
    assert 0 < found["unseen_real_least_l2_to_nearest4"] <= found["unseen_real_l2_to_nearest4"]
    assert Image.open(context.out / "nearest.png").width > 4 * 16


def test_every_row_stands_in_the_table_with_its_floors():
    kid, fid = Measure("kid", 60, "efflite0"), Measure("fid", 60, "efflite0")
    figures = {kid: 0.0012, fid: 3.0, Measure("recall", 60, "efflite0"): 0.5, Measure("face", 10, "blazeface"): 90.0}
    measured = {name: dict(figures) for name in ("samples", "real", "real_blurred", "real_noisy")}
    measured["samples"][Measure("ppl", 1000, "lpips_alex")] = 1.7
    measured |= {"neutral_to_smiling": {kid: 0.0789}, "copies": {Measure("samples_l2_to_nearest", 4): 0.01}}
    lines = report(measured, SimpleNamespace(images=60)).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert [line.count("|") for line in table] == [6] * 6
    assert table[-1] == "| the same with mild noise | 1.20 | 3.00 | 0.500 | 90.0 |"
    assert "- ppl1k_lpips_alex of the samples: 1.7" in lines and any("78.90" in line for line in lines)
