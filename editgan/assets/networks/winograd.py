"""3x3 convolutions of frozen networks on a CPU by Winograd's minimal filtering: 36 multiplications instead of 144.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), F(4x4, 3x3): the image is cut into
overlapping 6x6 tiles. Tiles and kernels are transformed, multiplied elementwise (one matrix product over channels per
element), and transformed back to 4x4 outputs: Y = A^T [(G g G^T) * (B^T d B)] A. oneDNN has no such kernel for the CPUs
that this project was measured on. From 256 channels on, the products cost more than the transforms, and LPIPS-VGG with
its gradient takes two thirds of the time. Results agree with the ordinary convolution to about 1e-5.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MIN_PRODUCT = 128 * 256  # minimum of in_channels * out_channels for a speed-up
TILE = 4  # side of a tile's output in pixels

# fmt: off
INPUT_TRANSFORM = torch.tensor([[4.0, 0.0, -5.0, 0.0, 1.0, 0.0],  # B^T
                                [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
                                [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
                                [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
                                [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
                                [0.0, 4.0, 0.0, -5.0, 0.0, 1.0]])
KERNEL_TRANSFORM = torch.tensor([[1 / 4, 0.0, 0.0],  # G
                                 [-1 / 6, -1 / 6, -1 / 6],
                                 [-1 / 6, 1 / 6, -1 / 6],
                                 [1 / 24, 1 / 12, 1 / 6],
                                 [1 / 24, -1 / 12, 1 / 6],
                                 [0.0, 0.0, 1.0]])
OUTPUT_TRANSFORM = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],  # A^T
                                 [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
                                 [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
                                 [0.0, 1.0, -1.0, 8.0, -8.0, 1.0]])
# fmt: on
# B^T d B as one matrix product with a flattened tile; likewise for A.
INPUT_MATRIX = torch.kron(INPUT_TRANSFORM, INPUT_TRANSFORM)  # [36, 36]
OUTPUT_MATRIX = torch.kron(OUTPUT_TRANSFORM, OUTPUT_TRANSFORM)  # [16, 36]


def transform_kernel(weight: Tensor) -> Tensor:
    """G g G^T of every kernel: [O, I, 3, 3] -> [36, I, O]."""
    kernels = torch.einsum("ia,oqab,jb->ijqo", KERNEL_TRANSFORM, weight, KERNEL_TRANSFORM)
    return kernels.flatten(0, 1).contiguous()


def winograd_conv3x3(x: Tensor, kernels: Tensor) -> Tensor:
    """3x3 convolution with padding 1: x [N, I, H, W], kernels [36, I, O] -> [N, O, H, W] in channels-last memory.

    H and W must be multiples of 4.
    """
    count, channels, height, width = x.shape
    rows, columns = height // TILE, width // TILE
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()  # [N, H + 2, W + 2, I]
    s_n, s_h, s_w, s_c = x.stride()
    tiles = x.as_strided((6, 6, count, rows, columns, channels), (s_h, s_w, s_n, TILE * s_h, TILE * s_w, s_c))
    tiles = INPUT_MATRIX @ tiles.reshape(36, -1)  # [36, N * rows * columns * I]
    tiles = torch.bmm(tiles.view(36, -1, channels), kernels)  # [36, N * rows * columns, O]
    y = (OUTPUT_MATRIX @ tiles.view(36, -1)).view(TILE, TILE, count, rows, columns, -1)
    y = y.permute(2, 3, 0, 4, 1, 5).reshape(count, height, width, -1)  # [N, H, W, O]
    return y.permute(0, 3, 1, 2)


class _FrozenConv3x3(torch.autograd.Function):
    """The input gradient of a 3x3 convolution is a convolution with mirrored kernels and exchanged channels."""

    @staticmethod
    def forward(ctx, x: Tensor, kernels: Tensor, mirrored: Tensor) -> Tensor:
        ctx.mirrored = mirrored
        return winograd_conv3x3(x, kernels)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return winograd_conv3x3(gradient, ctx.mirrored), None, None


class WinogradConv3x3(nn.Conv2d):
    """A frozen 3x3 convolution, stride and padding 1, that uses Winograd's algorithm where possible.

    It is used on a CPU, in float32, if both sides are multiples of 4; otherwise the ordinary convolution is used.
    Transformed kernels are made on first use and take 8 times the memory of the weights.
    """

    transformed: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.dtype != torch.float32 or x.shape[2] % TILE or x.shape[3] % TILE:
            return super().forward(x)
        if self.transformed is None:
            weight = self.weight.detach()
            mirrored = weight.flip(2, 3).transpose(0, 1)
            self.transformed = (transform_kernel(weight), transform_kernel(mirrored))
        return _FrozenConv3x3.apply(x, *self.transformed) + self.bias[:, None, None]


def use_winograd(network: nn.Module) -> nn.Module:
    """Make every wide 3x3 convolution of a frozen network use Winograd's algorithm. Modifies and returns `network`."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _eligible(module):
            if module.weight.requires_grad:
                raise ValueError("use_winograd needs a frozen network: transformed kernels do not follow training")
            module.__class__ = WinogradConv3x3
    return network


def _eligible(conv: nn.Conv2d) -> bool:
    plain = conv.stride == conv.padding == conv.dilation == (1, 1) and conv.groups == 1 and conv.bias is not None
    return plain and conv.kernel_size == (3, 3) and conv.in_channels * conv.out_channels >= MIN_PRODUCT
