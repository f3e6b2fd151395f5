"""Winograd's convolution against the ordinary one in float64, value and gradient, and what is left alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from editgan.assets.networks.winograd import WinogradConv3x3, use_winograd


def wide_conv(out_channels=256) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(128, out_channels, 3, padding=1).requires_grad_(False)


@pytest.mark.parametrize("shape", [(2, 128, 8, 8), (1, 128, 4, 12), (3, 128, 16, 16)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_value_and_gradient_against_float64(shape, memory_format):
    conv = wide_conv()
    x = torch.randn(shape).contiguous(memory_format=memory_format).requires_grad_()
    reference = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    direction = torch.randn(reference.shape)
    (expected,) = torch.autograd.grad((reference * direction).sum(), x)
    y = use_winograd(conv)(x)
    (gradient,) = torch.autograd.grad((y * direction).sum(), x)
    assert isinstance(conv, WinogradConv3x3)
    torch.testing.assert_close(y.double(), reference, rtol=0, atol=1e-4)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", [1, 2, 6, 7])
def test_other_sizes_take_the_ordinary_way(side):
    conv, x = wide_conv(), torch.randn(2, 128, side, side)
    expected = conv(x)
    assert torch.equal(use_winograd(conv)(x), expected)


def test_float64_stays_float64():
    conv, x = wide_conv().double(), torch.randn(1, 128, 8, 8, dtype=torch.float64)
    expected = conv(x)
    assert torch.equal(use_winograd(conv)(x), expected)


def test_only_wide_plain_convolutions_change():
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.Conv2d(256, 256, 1),
        nn.Conv2d(256, 256, 3, stride=2, padding=1),
        nn.Conv2d(256, 256, 3, padding=1, groups=2),
        nn.Conv2d(256, 256, 3, padding=1),
    ).requires_grad_(False)
    use_winograd(net)
    assert [type(module) for module in net] == [nn.Conv2d] * 4 + [WinogradConv3x3]
    assert net.state_dict().keys() == {f"{i}.{name}" for i in range(5) for name in ("weight", "bias")}


def test_a_network_in_training_is_refused():
    with pytest.raises(ValueError, match="frozen"):
        use_winograd(wide_conv().requires_grad_(True))


@pytest.mark.assets
def test_lpips_is_the_same(assets_dir):
    from editgan.assets.load import load_network

    plain = load_network("lpips_vgg", assets_dir)
    fast = use_winograd(load_network("lpips_vgg", assets_dir))
    x, y = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(fast(x, y), plain(x, y), rtol=1e-4, atol=0)
