"""Parts of MaskGAN for training only: the mask autoencoder, edits simulated with it, the blender, the parser.

Editing behaviour simulated training (Lee et al., CVPR 2020, section 3.3): the autoencoder interpolates a mask towards
another one, and extrapolates it by the same step away from it. Two faces of the same style are generated from the two
masks, and a small network blends them; the blend must reconstruct the photo. A parser, which is not part of the paper's
method, measures whether generated faces match their masks; it is not used as a loss.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from editgan.images import to_float
from editgan.methods.distillation.pix2pixhd import LEAK, GlobalGenerator, initialise
from editgan.methods.maskgan.networks import MaskGAN, one_hot
from editgan.training import in_batches


class MaskVAE(nn.Module):
    """A variational autoencoder of one-hot masks: 4x4 convolutions with stride 2, nearest-neighbour upsampling.

    width: channels after the first of `num_downs` layers; each further one doubles them. latent: size of the code.
    """

    def __init__(self, *, num_classes: int, resolution: int, width: int, num_downs: int, latent: int) -> None:
        super().__init__()
        if resolution % 2**num_downs:
            raise ValueError(f"a mask of {resolution} px cannot be halved {num_downs} times")
        self.num_classes, self.resolution, self.side = num_classes, resolution, resolution // 2**num_downs
        widths = [width * 2**level for level in range(num_downs)]
        self.widest = widths[-1]
        encoder, decoder = [], []
        for few, many in zip([num_classes, *widths[:-1]], widths, strict=True):
            encoder += [nn.Conv2d(few, many, 4, stride=2, padding=1), nn.BatchNorm2d(many), nn.LeakyReLU(LEAK)]
        for many, few in zip(reversed(widths), [*reversed(widths[:-1]), width], strict=True):
            up = nn.Upsample(scale_factor=2, mode="nearest")
            decoder += [up, nn.Conv2d(many, few, 3, padding=1), nn.BatchNorm2d(few), nn.LeakyReLU(LEAK)]
        self.encoder = nn.Sequential(*encoder)
        self.to_code = nn.Linear(self.widest * self.side**2, 2 * latent)
        self.from_code = nn.Linear(latent, self.widest * self.side**2)
        self.decoder = nn.Sequential(*decoder, nn.Conv2d(width, num_classes, 3, padding=1))

    def encode(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot masks [N, num_classes, H, W] -> mean and log variance of their codes, [N, latent] each."""
        if masks.shape[1:] != (self.num_classes, self.resolution, self.resolution):
            expected = [self.num_classes, self.resolution, self.resolution]
            raise ValueError(f"expected one-hot masks [N, *{expected}], got {list(masks.shape)}")
        mean, log_variance = self.to_code(self.encoder(masks).flatten(1)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [N, latent] -> logits [N, num_classes, H, W]."""
        return self.decoder(self.from_code(codes).unflatten(1, (self.widest, self.side, self.side)))

    def terms(self, masks: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """The loss terms and the pixel accuracy of reconstructing labels [N, H, W]; noise: N(0, 1) [N, latent]."""
        mean, log_variance = self.encode(one_hot(masks, self.num_classes))
        logits = self.decode(mean + noise * (log_variance / 2).exp())
        return {
            "ce": F.cross_entropy(logits, masks.long()),
            "kl": kl_divergence(mean, log_variance),
            "accuracy": (logits.argmax(1) == masks).float().mean(),
        }


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)), summed over the entries of a code, mean over codes [N, latent].  # scalar"""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2


def inter_and_outer(codes: Tensor, references: Tensor, divisor: float) -> tuple[Tensor, Tensor]:
    """Codes moved towards the references by 1 / divisor of the difference, and away by as much (section 3.3)."""
    step = (references - codes) / divisor
    return codes + step, codes - step


@torch.no_grad()
def simulated_edits(vae: MaskVAE, masks: Tensor, references: Tensor, divisor: float) -> tuple[Tensor, Tensor]:
    """The interpolated and the extrapolated mask of each mask, labels [N, H, W] each; `vae` in eval mode."""
    code, reference = (vae.encode(one_hot(labels, vae.num_classes))[0] for labels in (masks, references))
    inter, outer = (vae.decode(moved).argmax(1).to(masks.dtype) for moved in inter_and_outer(code, reference, divisor))
    return inter, outer


def reconstruct_masks(vae: MaskVAE, masks: Tensor, *, batch: int = 50) -> Tensor:
    """Encode and decode masks, labels [N, H, W], on the CPU; `vae` in eval mode."""

    def reconstruct(labels: Tensor) -> Tensor:
        code = vae.encode(one_hot(labels, vae.num_classes))[0]
        return vae.decode(code).argmax(1).to(masks.dtype)

    return in_batches(reconstruct, masks, batch=batch, device=next(vae.parameters()).device)


class AlphaBlender(nn.Module):
    """Blends two images: alpha * first + (1 - alpha) * second, with alpha predicted per pixel from both images.

    The paper's blender is pix2pixHD's generator with a sigmoid. (1 + tanh(x)) / 2 is the sigmoid of 2 x.
    """

    def __init__(self, *, width: int, num_downs: int, num_blocks: int) -> None:
        super().__init__()
        sizes = dict(width=width, num_downs=num_downs, num_blocks=num_blocks)
        self.alpha = GlobalGenerator(in_channels=6, out_channels=1, **sizes)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Images [N, 3, H, W] -> [N, 3, H, W]"""
        alpha = (1 + self.alpha(torch.cat([first, second], dim=1))) / 2  # [N, 1, H, W]
        return second + alpha * (first - second)


def ebst_images(
    net: MaskGAN, blender: AlphaBlender, styles: Tensor, inter: Tensor, outer: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Two faces with the same styles [N, S], generated from two one-hot masks, and their blend (target: the photo)."""
    first, second = net.mapping(inter, styles), net.mapping(outer, styles)  # [N, 3, H, W]
    return first, second, blender(first, second)


class Parser(nn.Module):
    """A small U-Net from images to part labels with `depth` halvings, each doubling the channels."""

    def __init__(self, *, num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.config = dict(num_classes=num_classes, width=width, depth=depth)
        widths = [width * 2**level for level in range(depth + 1)]
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.first = self._layer(3, width)
        self.downs = nn.ModuleList(self._layer(few, many, stride=2) for few, many in pairs)
        self.ups = nn.ModuleList(self._layer(many + few, few) for few, many in reversed(pairs))
        self.last = nn.Conv2d(width, num_classes, 1)

    @staticmethod
    def _layer(few: int, many: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(few, many, 3, stride=stride, padding=1), nn.GroupNorm(1, many), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Images in [-1, 1], [N, 3, H, W] -> logits [N, num_classes, H, W]."""
        maps = [self.first(images)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        x = maps.pop()
        for up, skipped in zip(self.ups, reversed(maps), strict=True):
            x = F.interpolate(x, size=skipped.shape[2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([x, skipped], dim=1))
        return self.last(x)

    def terms(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """The loss term and the pixel accuracy for images [N, 3, H, W] and labels [N, H, W]."""
        logits = self(images)
        accuracy = (logits.argmax(1) == masks).float().mean()
        return {"ce": F.cross_entropy(logits, masks.long()), "accuracy": accuracy}


def predict(parser: Parser, images: Tensor, *, batch: int = 50) -> Tensor:
    """Predict part labels of uint8 images [N, 3, H, W], on the CPU.  # uint8 [N, H, W]"""
    device = next(parser.parameters()).device
    return in_batches(lambda part: parser(to_float(part)).argmax(1).to(torch.uint8), images, batch=batch, device=device)


@torch.no_grad()
def initialise_maskgan(net: MaskGAN, generator: torch.Generator) -> MaskGAN:
    """Initialise the mapping network like pix2pixHD, and the style encoder as in He et al. 2015 (no normalisation).

    The spatial transforms and the styles start at zero, so training starts with plain instance normalisation.
    """
    initialise(net.mapping, generator)
    for module in net.style.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=LEAK, generator=generator)
            module.bias.zero_()
    for layer in (net.style.linear, *(part[-1] for t in net.style.transforms for part in (t.scale, t.shift))):
        layer.weight.zero_()
        layer.bias.zero_()
    return net
