"""The segmentation ensemble: is the projection exact, are the members independent, does it learn, are scores right?"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics.classification import MulticlassJaccardIndex

from editgan.labels import IGNORE
from editgan.segmentation.ensemble import SegmentationEnsemble, load_segmentation, save_segmentation
from editgan.segmentation.metrics import confusion_matrix, iou_per_class, segmentation_scores
from editgan.segmentation.pixels import full_feature_stack, pixel_sampler
from editgan.segmentation.suggest import suggest
from editgan.segmentation.train import drop_small_labels, pixel_orders, train_ensemble
from editgan.segmentation.uncertainty import image_uncertainty, js_divergence, uncertainty_auroc

SIZE, CLASSES = 16, 5
CHANNELS = [6, 6, 5, 5, 4, 4]  # the maps of a 16 px generator: 4, 4, 8, 8, 16, 16
SIDES = [4, 4, 8, 8, 16, 16]


def random_features(count: int, dtype=torch.float32, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, channels, side, side, generator=generator, dtype=torch.float64).to(dtype) * 3
        for channels, side in zip(CHANNELS, SIDES, strict=True)
    ]


def random_ensemble(dtype=torch.float32, members: int = 3, num_classes: int = CLASSES) -> SegmentationEnsemble:
    """Random everything, running statistics included, so that no term can be forgotten unnoticed."""
    torch.manual_seed(1)
    ensemble = SegmentationEnsemble(feature_channels=CHANNELS, num_classes=num_classes, members=members)
    for tensor in [*ensemble.parameters(), ensemble.norm1.running_mean, ensemble.norm2.running_mean]:
        nn.init.normal_(tensor, std=0.3)
    for tensor in (ensemble.norm1.running_var, ensemble.norm2.running_var):
        nn.init.uniform_(tensor, 0.5, 2)
    return ensemble.to(dtype).eval()


def one_member(ensemble: SegmentationEnsemble, member: int) -> nn.Sequential:
    """The same classifier in the layers of the released code, for one member."""

    def linear(weight, bias):
        layer = nn.Linear(weight.shape[2], weight.shape[1]).to(weight.dtype)
        layer.weight.data, layer.bias.data = weight[member].data, bias[member].data
        return layer

    def norm(source, width):
        layer, part = nn.BatchNorm1d(width).to(source.weight.dtype), slice(member * width, (member + 1) * width)
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(layer, name).data = getattr(source, name).data[part]
        return layer

    return nn.Sequential(
        linear(ensemble.weight1, ensemble.bias1), nn.ReLU(), norm(ensemble.norm1, ensemble.bias1.shape[1]),
        linear(ensemble.weight2, ensemble.bias2), nn.ReLU(), norm(ensemble.norm2, ensemble.bias2.shape[1]),
        linear(ensemble.weight3, ensemble.bias3),
    ).eval()  # fmt: skip


def reference_logits(ensemble: SegmentationEnsemble, features: list[torch.Tensor]) -> torch.Tensor:
    """Every member on the full feature stack, pixel by pixel.  # [N, M, K, SIZE, SIZE]"""
    stack = full_feature_stack(features, SIZE).permute(0, 2, 3, 1)  # [N, SIZE, SIZE, C]
    rows = stack.flatten(0, 2)
    logits = torch.stack([one_member(ensemble, m)(rows) for m in range(ensemble.members)], 1)  # [N * S * S, M, K]
    return logits.unflatten(0, stack.shape[:3]).permute(0, 3, 4, 1, 2)


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    value, expected = value.detach().double(), expected.detach().double()
    return float((value - expected).abs().max() / expected.abs().max())


def test_projection_equals_the_full_feature_stack():
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        ensemble, features = random_ensemble(dtype), random_features(2, dtype)
        with torch.no_grad():
            error = relative_error(ensemble(features, SIZE), reference_logits(ensemble, features))
        assert error < tolerance, f"{dtype}: {error}"


def test_projection_has_the_gradient_of_the_full_feature_stack():
    ensemble = random_ensemble(torch.float64)
    gradients = []
    for logits_of in (lambda maps: ensemble(maps, SIZE), lambda maps: reference_logits(ensemble, maps)):
        features = [feature.requires_grad_() for feature in random_features(2, torch.float64)]
        gradients.append(torch.autograd.grad(logits_of(features).square().mean(), features))
    for mine, expected in zip(*gradients, strict=True):
        assert relative_error(mine, expected) < 1e-10


def test_wide_hidden_layers_from_32_classes_on():
    assert [random_ensemble(num_classes=k).bias1.shape[1] for k in (31, 32)] == [128, 256]
    ensemble, features = random_ensemble(torch.float64, num_classes=34), random_features(1, torch.float64)
    with torch.no_grad():
        assert relative_error(ensemble(features, SIZE), reference_logits(ensemble, features)) < 1e-10


def test_pixels_are_read_as_interpolate_defines_them():
    features = random_features(3, torch.float64)
    pixels = torch.randint(3 * SIZE * SIZE, (200,), generator=torch.Generator().manual_seed(2))
    expected = full_feature_stack(features, SIZE).permute(0, 2, 3, 1).flatten(0, 2)[pixels]
    assert relative_error(pixel_sampler(pixels, SIZE, SIDES)(features), expected) < 1e-12


def test_read_out_at_pixels_equals_read_out_of_images_with_gradient():
    ensemble = random_ensemble(torch.float64)
    pixels = torch.tensor([0, 5, 15, 77, 255, 256, 300, 511])  # of two images
    results = []
    for mode in ("pixels", "images"):
        features = [feature.requires_grad_() for feature in random_features(2, torch.float64)]
        if mode == "pixels":
            logits = ensemble.pixel_logits(features, pixel_sampler(pixels, SIZE, SIDES))  # [P, M, K]
        else:
            logits = ensemble(features, SIZE).permute(0, 3, 4, 1, 2).flatten(0, 2)[pixels]  # [P, M, K]
        results.append((logits, *torch.autograd.grad(logits.mean(1).logsumexp(1).sum(), features)))
    for mine, expected in zip(*results, strict=True):
        assert relative_error(mine, expected) < 1e-10


def test_members_train_as_if_alone():
    """One step of batched training moves each member exactly as its own network would move."""
    ensemble = random_ensemble(torch.float64).train()
    alone = [one_member(ensemble, m).train() for m in range(3)]
    for network in alone:
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(3, 32, sum(CHANNELS), generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (3, 32), generator=generator)
    F.cross_entropy(ensemble.member_logits(pixels).transpose(1, 2), labels, reduction="none").mean(1).sum().backward()
    for member, network in enumerate(alone):
        F.cross_entropy(network(pixels[member]), labels[member]).backward()
        assert relative_error(ensemble.weight1.grad[member], network[0].weight.grad) < 1e-10
        assert relative_error(ensemble.weight3.grad[member], network[6].weight.grad) < 1e-10


def labelled_problem(count: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Features whose full-size maps decide the label: blobs of class 1 and 2 on background."""
    features = random_features(count, seed=5)
    score = F.avg_pool2d(features[-1][:, :2], 3, 1, 1)  # [N, 2, SIZE, SIZE]
    masks = torch.where(score[:, 0] > 0.7, 1, torch.where(score[:, 1] > 0.7, 2, 0)).to(torch.uint8)
    features[-1][:, 2:4] = score
    return features, masks


def test_training_learns_and_is_deterministic():
    features, masks = labelled_problem(4)
    settings = dict(class_names=["background", "one", "two"], members=2, epochs=12, batch=64)
    reports = []
    ensemble = train_ensemble(features, masks, **settings, seed=7, report=lambda *r: reports.append(r))
    accuracy = (ensemble.predict(features, SIZE) == masks).double().mean()
    majority = masks.flatten().bincount().max() / masks.numel()
    assert accuracy > 0.95 > majority, (accuracy, majority)
    assert reports[0][2]["loss_ce"] > 2 * reports[-1][2]["loss_ce"] and reports[-1][0] == reports[-1][1] == 12 * 16
    again = train_ensemble(features, masks, **settings, seed=7)
    other = train_ensemble(features, masks, **settings, seed=8)
    assert torch.equal(ensemble.weight1, again.weight1) and not torch.equal(ensemble.weight1, other.weight1)
    assert not torch.equal(ensemble.weight1[0], ensemble.weight1[1])


def test_pixels_without_a_label_teach_nothing():
    features, masks = labelled_problem(4)
    settings = dict(class_names=["background", "one", "two"], members=2, epochs=12, batch=64, seed=7)
    hidden = torch.where(torch.rand(masks.shape, generator=torch.Generator().manual_seed(0)) < 0.5, IGNORE, masks)
    predicted = train_ensemble(features, hidden, **settings).predict(features, SIZE)
    majority = masks.flatten().bincount().max() / masks.numel()
    assert (predicted == masks).double().mean() > majority + 0.1 and predicted.max() == 2
    small = torch.zeros(1, 256, 256, dtype=torch.uint8)
    small[0, 0, :3], small[0, 1, :3] = 1, IGNORE
    assert drop_small_labels(small, 30).unique().tolist() == [0, IGNORE]


def test_every_member_sees_every_pixel_in_its_own_order():
    orders = pixel_orders(50, 3, seed=0, epoch=1)
    assert torch.equal(orders.sort(1).values, torch.arange(50).expand(3, -1))
    assert not torch.equal(orders[0], orders[1]) and not torch.equal(orders, pixel_orders(50, 3, seed=0, epoch=2))


def test_file_gives_the_network_back(tmp_path):
    ensemble = random_ensemble()
    ensemble.class_names = ["background", "skin", "nose", "upper_lip", "lower_lip"]
    path = save_segmentation(tmp_path / "S.safetensors", ensemble)
    loaded, features = load_segmentation(path), random_features(1)
    logits, expected = loaded(features, SIZE), ensemble(features, SIZE)
    assert (logits - expected).abs().max() < 2e-3 * expected.abs().max(), "kept in float16"
    assert loaded.class_ids(["lower_lip", "nose"]) == [4, 2] and not loaded.training


def test_small_labels_go_only_at_large_sizes():
    masks = torch.zeros(1, 256, 256, dtype=torch.uint8)
    masks[0, 0, :29], masks[0, 1, :30] = 1, 2
    assert drop_small_labels(masks, 30).unique().tolist() == [0, 2]
    assert drop_small_labels(masks[:, :128, :128], 30).unique().tolist() == [0, 1, 2]


def test_scores_agree_with_torchmetrics_and_name_absent_classes():
    generator = torch.Generator().manual_seed(4)
    truth = torch.randint(4, (150, 8, 8), generator=generator, dtype=torch.uint8)  # class 4 never occurs
    predicted = torch.where(torch.rand(truth.shape, generator=generator) < 0.6, truth, truth.flip(0))
    jaccard = MulticlassJaccardIndex(num_classes=5, average=None)(predicted.long(), truth.long())
    assert torch.allclose(iou_per_class(confusion_matrix(predicted, truth, 5))[:4], jaccard[:4].double(), atol=1e-6)
    scores = segmentation_scores(predicted, truth, ["a", "b", "c", "d", "e"])
    assert scores.absent == ["e"] and list(scores.iou) == ["a", "b", "c", "d"]
    assert abs(scores.miou - float(jaccard[:4].mean())) < 1e-6
    assert abs(scores.pixel_accuracy - float((predicted == truth).double().mean())) < 1e-9


def test_uncertainty_is_zero_where_members_agree_and_log_2_where_two_contradict():
    logits = torch.zeros(1, 2, 3, 1, 2)
    logits[0, 0, 0, 0, 0] = logits[0, 1, 1, 0, 0] = 100  # pixel 0: member 0 says class 0, member 1 says class 1
    logits[0, :, 2, 0, 1] = 100  # pixel 1: both say class 2
    assert torch.allclose(js_divergence(logits)[0, 0], torch.tensor([2.0, 1.0]).log(), atol=1e-6)
    divergence = torch.zeros(1, 10, 10)
    divergence[0, 0, :5] = 1
    assert torch.allclose(image_uncertainty(divergence), torch.tensor([0.5]))


def test_auroc_is_the_chance_that_a_wrong_pixel_is_the_more_uncertain():
    divergence, wrong = torch.tensor([[[0.1, 0.4], [0.3, 0.9]]]), torch.tensor([[[False, True], [True, False]]])
    pairs = [(a > b) + 0.5 * (a == b) for a in (0.4, 0.3) for b in (0.1, 0.9)]
    assert uncertainty_auroc(divergence, wrong) == pytest.approx(sum(pairs) / 4)
    assert uncertainty_auroc(divergence, wrong & False) is None


def test_suggested_pictures_are_one_of_every_kind_the_frequent_kinds_first():
    generator = torch.Generator().manual_seed(4)
    kinds = torch.randn(3, 20, generator=generator) * 5
    kind_of = torch.tensor([0] * 40 + [1] * 15 + [2] * 5)
    features = kinds[kind_of] + torch.randn(len(kind_of), 20, generator=generator) * 0.3
    chosen = suggest(features, 3, seed=0)
    assert kind_of[chosen].tolist() == [0, 1, 2]
    assert suggest(features, 3, seed=0) == chosen
    nearest = [(features[kind_of == k] - features[kind_of == k].mean(0)).norm(dim=1).argmin().item() for k in range(3)]
    assert chosen == [nearest[0], 40 + nearest[1], 55 + nearest[2]]
