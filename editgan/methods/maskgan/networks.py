"""MaskGAN (Lee, Liu, Wu & Luo, CVPR 2020): generate a face from its edited mask, written from the paper.

The dense mapping network (section 3.2) generates an image from a mask. Its residual blocks get the appearance of the
face from a style encoder, whose inputs are the photo and the photo's mask. What only trains is in `maskgan.losses`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from editgan.data.protocol import MOUTH
from editgan.editing.edits import Transplant, transplanted
from editgan.images import to_float, to_uint8
from editgan.methods.distillation.pix2pixhd import LEAK, check_sides
from editgan.training import in_batches

SFT_LEAK = 0.1  # leaky ReLU slope in the networks of a spatial feature transform


def one_hot(masks: Tensor, num_classes: int) -> Tensor:
    """Labels [N, H, W] -> one channel per class, float32 [N, num_classes, H, W]; ValueError for an unknown label."""
    if masks.ndim != 3 or masks.is_floating_point():
        raise ValueError(f"masks must be labels [N, H, W], got {masks.dtype} {list(masks.shape)}")
    if masks.numel() and int(masks.max()) >= num_classes:
        raise ValueError(f"a mask has the label {int(masks.max())}; there are {num_classes} classes, from 0")
    channels = torch.zeros(len(masks), num_classes, *masks.shape[1:], device=masks.device)
    return channels.scatter_(1, masks.long()[:, None], 1.0)


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Adaptive instance normalisation (Huang & Belongie 2017, equation 8): (1 + scale) * (x - mean) / std + shift.

    x: [N, C, h, w]; scale, shift: [N, C]. A zero style gives plain instance normalisation.
    """
    return F.instance_norm(x) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


class StyledBlock(nn.Module):
    """A residual block of two 3x3 convolutions with AdaIN; its style is [N, 4 * channels]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.style_size = 4 * channels
        self.first = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.second = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale0, shift0, scale1, shift1 = style.chunk(4, dim=1)  # [N, C] each
        inner = F.relu(adain(self.first(x), scale0, shift0))  # [N, C, h, w]
        return x + adain(self.second(inner), scale1, shift1)


class StyledUp(nn.Module):
    """A transposed convolution that doubles the side, with AdaIN (style [N, 2 * few]) or instance normalisation."""

    def __init__(self, many: int, few: int, *, styled: bool) -> None:
        super().__init__()
        self.style_size = 2 * few if styled else 0
        self.up = nn.ConvTranspose2d(many, few, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = self.up(x)  # [N, few, 2h, 2w]
        return F.relu(adain(x, *style.chunk(2, dim=1)) if self.style_size else F.instance_norm(x))


class DenseMappingNetwork(nn.Module):
    """Masks and styles in, images in [-1, 1] out: pix2pixHD's generator with AdaIN in its residual blocks.

    Args:
        width: channels at full resolution; each of the `num_downs` halvings of the side doubles them
        styled_ups: also use AdaIN in the upsampling layers. Not in the paper. Instance normalisation in these layers
            removes the mean of each channel and with it colours, which few channels cannot encode otherwise.
    """

    def __init__(self, *, num_classes: int, width: int, num_downs: int, num_blocks: int, styled_ups: bool) -> None:
        super().__init__()
        self.num_classes, self.num_downs = num_classes, num_downs
        widths = [width * 2**level for level in range(num_downs + 1)]
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.first = nn.Conv2d(num_classes, width, 7, padding=3, padding_mode="reflect")
        self.downs = nn.ModuleList(nn.Conv2d(few, many, 3, stride=2, padding=1) for few, many in pairs)
        self.blocks = nn.ModuleList(StyledBlock(widths[-1]) for _ in range(num_blocks))
        self.ups = nn.ModuleList(StyledUp(many, few, styled=styled_ups) for few, many in reversed(pairs))
        self.last = nn.Conv2d(width, 3, 7, padding=3, padding_mode="reflect")
        self.style_sizes = [layer.style_size for layer in (*self.blocks, *self.ups)]

    def forward(self, masks: Tensor, styles: Tensor) -> Tensor:
        """One-hot masks [N, num_classes, H, W], styles [N, sum(style_sizes)] -> images [N, 3, H, W]."""
        check_sides(masks, self.num_classes, self.num_downs)
        if styles.shape != (len(masks), sum(self.style_sizes)):
            raise ValueError(f"expected styles [{len(masks)}, {sum(self.style_sizes)}], got {list(styles.shape)}")
        parts = styles.split(self.style_sizes, dim=1)
        x = F.relu(F.instance_norm(self.first(masks)))  # [N, width, H, W]
        for down in self.downs:
            x = F.relu(F.instance_norm(down(x)))
        for layer, style in zip((*self.blocks, *self.ups), parts, strict=True):
            x = layer(x, style)
        return torch.tanh(self.last(x))


class SpatialFeatureTransform(nn.Module):
    """Per-pixel scale and shift of features, predicted from a mask (Wang et al., CVPR 2018): (1 + scale) x + shift."""

    def __init__(self, channels: int, condition_channels: int) -> None:
        super().__init__()

        def small() -> nn.Sequential:
            first = nn.Conv2d(condition_channels, condition_channels, 1)
            return nn.Sequential(first, nn.LeakyReLU(SFT_LEAK), nn.Conv2d(condition_channels, channels, 1))

        self.scale, self.shift = small(), small()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[N, channels, h, w], [N, condition_channels, h, w] -> [N, channels, h, w]"""
        return x * (1 + self.scale(condition)) + self.shift(condition)


class SpatialAwareStyleEncoder(nn.Module):
    """A photo and its mask in, the parameters of all AdaIN layers out (section 3.2, supplement).

    Photo branch: one 7x7 convolution, two 4x4 convolutions with stride 2, a spatial transform by the mask, `num_downs`
    more stride-2 convolutions, a second transform, mean over positions, one linear layer. The mask branch has the same
    strides. There is no normalisation, because it would remove the style.

    Args:
        style_size: size of the dense mapping network's style vector
        width, mask_width: channels of the photo and of the mask branch after the second stride-2 convolution
    """

    def __init__(self, *, num_classes: int, style_size: int, width: int, mask_width: int, num_downs: int) -> None:
        super().__init__()
        self.photo_stem, self.photo_downs = self._stem(3, width), self._downs(width, num_downs)
        self.mask_stem, self.mask_downs = self._stem(num_classes, mask_width), self._downs(mask_width, num_downs)
        self.transforms = nn.ModuleList(SpatialFeatureTransform(width, mask_width) for _ in range(2))
        self.linear = nn.Linear(width, style_size)  # equals a 1x1 convolution on one pixel

    @staticmethod
    def _stem(channels: int, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, width // 4, 7, padding=3), nn.LeakyReLU(LEAK),
            nn.Conv2d(width // 4, width // 2, 4, stride=2, padding=1), nn.LeakyReLU(LEAK),
            nn.Conv2d(width // 2, width, 4, stride=2, padding=1), nn.LeakyReLU(LEAK),
        )  # fmt: skip

    @staticmethod
    def _downs(width: int, num_downs: int) -> nn.Sequential:
        pairs = [(nn.Conv2d(width, width, 4, stride=2, padding=1), nn.LeakyReLU(LEAK)) for _ in range(num_downs)]
        return nn.Sequential(*(layer for pair in pairs for layer in pair))

    def forward(self, photos: Tensor, masks: Tensor) -> Tensor:
        """Photos [N, 3, H, W], their one-hot masks [N, num_classes, H, W] -> styles [N, style_size]."""
        condition = self.mask_stem(masks)  # [N, mask_width, H/4, W/4]
        x = self.transforms[0](self.photo_stem(photos), condition)  # [N, width, H/4, W/4]
        x = self.transforms[1](self.photo_downs(x), self.mask_downs(condition))  # [N, width, h, w]
        return self.linear(x.mean((2, 3)))


class MaskGAN(nn.Module):
    """Dense mapping network and style encoder: the networks for editing. The defaults are the paper's, at 512 px."""

    def __init__(
        self,
        *,
        num_classes: int,
        width: int = 64,
        num_downs: int = 4,
        num_blocks: int = 4,
        styled_ups: bool = False,
        style_width: int = 64,
        mask_width: int = 64,
        style_downs: int = 3,
    ) -> None:
        super().__init__()
        mapping = dict(width=width, num_downs=num_downs, num_blocks=num_blocks, styled_ups=styled_ups)
        style = dict(style_width=style_width, mask_width=mask_width, style_downs=style_downs)
        self.config = dict(num_classes=num_classes, **mapping, **style)
        self.num_classes = num_classes
        self.mapping = DenseMappingNetwork(num_classes=num_classes, **mapping)
        sizes = dict(width=style_width, mask_width=mask_width, num_downs=style_downs)
        style_size = sum(self.mapping.style_sizes)
        self.style = SpatialAwareStyleEncoder(num_classes=num_classes, style_size=style_size, **sizes)

    def forward(self, photos: Tensor, masks: Tensor, edited_masks: Tensor) -> Tensor:
        """Photos in [-1, 1], their one-hot masks, the edited one-hot masks -> images in [-1, 1]."""
        return self.mapping(edited_masks, self.style(photos, masks))


def edit(net: MaskGAN, photos: Tensor, masks: Tensor, edited_masks: Tensor, *, batch: int = 50) -> Tensor:
    """Apply edited masks to photos: uint8 [N, 3, H, W], labels [N, H, W] before and after -> uint8, on the CPU.

    The paper uses the true masks of the photos, an advantage over methods that use pixels only. Masks predicted by
    `outputs/maskgan/parser.safetensors` (`maskgan.losses.predict`) avoid this advantage.
    """
    wanted = (len(photos), *photos.shape[2:])
    if photos.dtype != torch.uint8 or masks.shape != wanted or edited_masks.shape != wanted:
        raise ValueError(
            f"photos must be uint8 [N, 3, H, W] and both masks [N, H, W], got {photos.dtype} {list(photos.shape)},"
            f" {list(masks.shape)} and {list(edited_masks.shape)}"
        )

    def edited(photo: Tensor, *labels: Tensor) -> Tensor:
        before, after = (one_hot(mask, net.num_classes) for mask in labels)
        return to_uint8(net(to_float(photo), before, after))

    device = next(net.parameters()).device
    return in_batches(edited, photos, masks, edited_masks, batch=batch, device=device)


def sizes_of(resolution: int) -> dict[str, dict[str, int]]:
    """Arguments of each network: the paper's from 256 px on, smaller ones below; `width` of the net is a parameter.

    The paper's at 512 px: net {num_downs 4, num_blocks 4, style_width 64, mask_width 64, style_downs 3}, D {width 64},
    vae {width 32, num_downs 7, latent 1024}, blender {width 32, num_downs 3, num_blocks 3}.
    """
    large, halvings = resolution >= 256, resolution.bit_length() - 1  # halvings lead down to one pixel
    downs = min(4, halvings - 4)
    net = dict(num_downs=downs, num_blocks=4, style_width=64, mask_width=64 if large else 32)
    return {
        "net": net | {"style_downs": min(3, downs)},
        "D": {"width": 64 if large else 16},
        "vae": {"width": 32 if large else 16, "num_downs": halvings - 2, "latent": 1024 if large else 128},
        "parser": {"width": 32 if large else 12, "depth": halvings - 3},
        "blender": {"width": 32 if large else 16, "num_downs": min(3, downs), "num_blocks": 3},
    }


def smile_masks(masks: Tensor, donor: Tensor, class_names: Sequence[str]) -> Tensor:
    """Masks [N, H, W] with the mouth of a donor [H, W], at its size relative to the eye distance.  # labels [N, H, W]

    This is the transplant of EditGAN's edits. The paper's authors also swap the mouth classes.
    """
    step = Transplant(parts=MOUTH, donor="")
    edited = [transplanted(step, mask, donor.numpy(), class_names) for mask in masks.numpy()]
    return torch.stack([torch.as_tensor(mask) for mask in edited])
