"""The ports give what the original files give, whatever the batch, and pass gradients to the pixels.

The expected numbers were recorded once from independent readers of the original files: LiteRT 2.3 for MobileFaceNet and
BlazeFace, layer-by-layer executions of the other files (for LPIPS, of its Flax weights) in plain functions.
"""

import pytest
import torch

from editgan.assets.load import for_inference, load_network
from editgan.assets.manifest import NETWORKS


def pattern(count: int, size: int) -> torch.Tensor:
    """Smooth images that anyone can make again: waves, another one for every channel and image."""
    axis = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    images = [[torch.sin(2 * torch.pi * ((1 + c) * x + (2 - c) * y) + n + c) for c in range(3)] for n in range(count)]
    return torch.stack([torch.stack(channels) for channels in images]).float() * 0.9


def test_mobilefacenet_equals_litert(assets_dir):
    features = load_network("mobilefacenet", assets_dir).embed(pattern(2, 112))
    expected = torch.tensor(
        [
            [0.0051224013, 0.0274027344, 0.0160924513, -0.0054159504, -0.0638074055],
            [0.0146087715, 0.0278494731, 0.0122686997, -0.0032645385, -0.0542236306],
        ]
    )
    torch.testing.assert_close(features[:, :5], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))


def test_blazeface_equals_litert(assets_dir):
    network = load_network("blazeface", assets_dir)
    scores, places = network(pattern(1, 128))
    expected = torch.tensor([-4.9906859, -4.6869745, -3.4927950, -4.4925504, -12.5577230])
    torch.testing.assert_close(scores[0, [0, 100, 511, 512, 895]], expected, atol=1e-4, rtol=0)
    # regression outputs are pixels from the candidate's centre: x, y, width, height of the box, then the right eye
    raw = torch.tensor([-7.0762258, -2.1343305, 109.6946259, 109.6900788, -22.8403416, -16.3671894])
    centre = torch.tensor([120.0, 120.0])  # of the last of the 8x8 cells
    expected = raw.view(3, 2) + torch.stack([centre, torch.zeros(2), centre])
    torch.testing.assert_close(places[0, 895, :3] * 128, expected, atol=1e-3, rtol=0)


def test_face_api_expression_equals_the_original(assets_dir):
    probabilities = load_network("face_api_expression", assets_dir).classify(pattern(1, 112))
    expected = [0.4446845353, 0.0091479346, 0.4802336395, 0.0260893193, 0.0025474823, 0.0064251143, 0.0308720283]
    torch.testing.assert_close(probabilities, torch.tensor([expected]), atol=1e-5, rtol=0)


def test_fer_equals_the_original(assets_dir):
    probabilities = load_network("fer", assets_dir).classify(pattern(1, 64))
    expected = [0.0031316481, 0.0000125994, 0.0240834989, 0.0467286408, 0.0097426241, 0.0081010265, 0.9081999660]
    torch.testing.assert_close(probabilities, torch.tensor([expected]), atol=1e-5, rtol=0)


def test_dlib_resnet_equals_the_original(assets_dir):
    features = load_network("dlib_resnet", assets_dir).embed(pattern(1, 150))
    expected = torch.tensor([-0.0703039467, 0.0976833180, 0.0379490554, -0.0088266432, -0.0602321222])
    torch.testing.assert_close(features[0, :5], expected, atol=1e-5, rtol=0)


def test_efflite0_equals_the_original(assets_dir):
    network = load_network("efflite0", assets_dir)
    images = pattern(1, 224)
    features, logits = network(images), network.logits(images)
    expected = torch.tensor([0.0, 0.0, 1.8911553621, 0.0073959683, 0.0021273729, 0.0])
    torch.testing.assert_close(features[0, :6], expected, atol=1e-4, rtol=0)
    assert features.sum().item() == pytest.approx(141.235306, abs=1e-2)
    expected = torch.tensor([-0.1168738231, 2.1640825272, -0.2198859155, -1.0830311775])
    torch.testing.assert_close(logits[0, :4], expected, atol=1e-4, rtol=0)


def test_efflite1_equals_the_original(assets_dir):
    maps = load_network("efflite1", assets_dir)(pattern(1, 64))
    assert [list(found.shape) for found in maps] == [[1, 24, 16, 16], [1, 40, 8, 8], [1, 112, 4, 4], [1, 320, 2, 2]]
    expected = [
        [3.117908, 46.032795, 36.804729], [-19.758411, 6.071775, -3.408163], [12.418322, -3.861156, 2.097208],
        [1.851284, 2.168006, 2.2525],
    ]  # fmt: skip
    for found, numbers in zip(maps, expected, strict=True):
        torch.testing.assert_close(found.flatten()[:3], torch.tensor(numbers), atol=1e-3, rtol=0)
    sums = [float(found.sum()) for found in maps]
    assert sums == pytest.approx([26467.1348, 4168.7974, -922.5284, -84.3188], rel=1e-4)


@pytest.mark.parametrize("trunk, recorded", [("alex", 0.0779257417), ("vgg", 0.2987332046)])
def test_lpips_equals_the_package(trunk, recorded, assets_dir):
    """The two halves against the package's own forward pass, and that against a port with other trunk code."""
    network = load_network(f"lpips_{trunk}", assets_dir)
    first, second = pattern(3, 64), pattern(3, 64).flip(0, 2)
    with torch.no_grad():
        torch.testing.assert_close(network(first, second), network.model(first, second).flatten(), atol=1e-6, rtol=0)
        recorded_pair = network(*pattern(2, 64)[:, None])
        assert recorded_pair.item() == pytest.approx(recorded, abs=1e-5)
        assert network(first, first).abs().max() == 0
        target = network.features(second[:1])
        torch.testing.assert_close(
            network.distance(network.features(first), target), network(first, second[:1].expand(3, -1, -1, -1))
        )
        assert network.pooled(first).shape == (3, network.model.chns[-1])


def test_loading_lpips_leaves_the_random_state_alone(assets_dir):
    before = torch.get_rng_state()
    load_network("lpips_alex", assets_dir)
    assert torch.equal(before, torch.get_rng_state())


def flat(output: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """[N, D] of what a network gives, one tensor or several maps."""
    return torch.cat([x.flatten(1) for x in (output if isinstance(output, list) else [output])], 1)


@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.startswith(("lpips", "blaze"))])
def test_batch_and_gradient(name, assets_dir):
    network = load_network(name, assets_dir)
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    images = pattern(3, 64).requires_grad_(True)
    outputs = flat(network(images))
    with torch.no_grad():
        torch.testing.assert_close(outputs[1:2], flat(network(images[1:2])), atol=2e-5, rtol=1e-4)
    outputs[1].square().sum().backward()
    assert images.grad[1].abs().sum() > 0 and images.grad[[0, 2]].abs().sum() == 0
    assert torch.isfinite(images.grad).all()


@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.startswith("blaze")])
def test_network_for_inference_is_the_same_network(name, assets_dir):
    network, images = load_network(name, assets_dir), pattern(2, 64)
    call = (lambda x: network(x, x.flip(0))) if name.startswith("lpips") else network
    with torch.no_grad():
        before = call(images)
        for_inference(network)
        after = call(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(after, before, atol=3e-5, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_batch_norms_that_follow_no_convolution_stay():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).eval()
    for module in (network[0], network[2]):
        module.running_mean.normal_()
        module.running_var.uniform_(0.5, 2.0)
    images = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        before = network(images)
        for_inference(network)
        torch.testing.assert_close(network(images), before, atol=1e-6, rtol=1e-5)
    assert [type(module).__name__ for module in network] == ["BatchNorm2d", "Conv2d", "Identity"]


@pytest.mark.parametrize("name", ["mobilefacenet", "dlib_resnet", "face_api_expression", "fer"])
def test_size_of_the_picture_hardly_matters(name, assets_dir):
    """The same smooth picture at 64, 128 and 512 pixels: crops are placed and filtered alike."""
    network = load_network(name, assets_dir)
    with torch.no_grad():
        small, middle, large = (network(pattern(1, size)) for size in (64, 128, 512))
    for other in (small, large):
        assert torch.nn.functional.cosine_similarity(other, middle).item() > 0.98


@pytest.mark.parametrize("name", ["face_api_expression", "fer"])
def test_smile_is_the_probability_of_happy(name, assets_dir):
    network, images = load_network(name, assets_dir), pattern(2, 64)
    assert torch.equal(network.smile(images), network(images)[:, network.expressions.index("happy")])
    torch.testing.assert_close(network(images).sum(1), torch.ones(2))
