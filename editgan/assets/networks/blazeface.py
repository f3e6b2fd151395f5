"""BlazeFace, short range (Bazarevsky et al. 2019), from MediaPipe: detects a face and six landmarks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editgan.assets.networks.same_padding import pad_same

SIZE = 128
MARGIN = 0.25  # of edge pixels on every side, as a share of the side: for faces that fill their picture
# (input channels, output channels, stride) of the blocks
BLOCKS = (
    (24, 24, 1), (24, 28, 1), (28, 32, 2), (32, 36, 1), (36, 42, 1), (42, 48, 2), (48, 56, 1), (56, 64, 1), (64, 72, 1),
    (72, 80, 1), (80, 88, 1), (88, 96, 2), (96, 96, 1), (96, 96, 1), (96, 96, 1), (96, 96, 1),
)  # fmt: skip
FINE_BLOCKS = 11  # the 16x16 map is read after this many blocks, the 8x8 map at the end


class BlazeBlock(nn.Module):
    """3x3 depthwise and 1x1 convolution, added to the input, which is pooled and zero-padded in channels if needed."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.stride, self.more = stride, out_channels - in_channels
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, groups=in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pointwise(self.depthwise(pad_same(x, 3, self.stride)))
        shortcut = F.max_pool2d(x, 2, 2) if self.stride == 2 else x
        return F.relu(y + F.pad(shortcut, (0, 0, 0, 0, 0, self.more)))


class BlazeFace(nn.Module):
    """Float images [N, 3, H, W] in [-1, 1]; use `detect`. Trained for faces that fill 15 to 70 % of the picture."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2)
        self.blocks = nn.ModuleList([BlazeBlock(*block) for block in BLOCKS])
        self.score_fine, self.score_coarse = nn.Conv2d(88, 2, 1), nn.Conv2d(96, 6, 1)
        self.place_fine, self.place_coarse = nn.Conv2d(88, 32, 1), nn.Conv2d(96, 96, 1)
        self.register_buffer("anchors", anchor_centres(), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, 128, 128] -> score logits [N, 896] and places [N, 896, 8, 2], relative to the side.

        The places of a candidate are box centre, box size and six landmarks.
        """
        x = F.relu(self.stem(pad_same(images, 5, 2)))
        for block in self.blocks[:FINE_BLOCKS]:
            x = block(x)
        fine = x  # [N, 88, 16, 16]
        for block in self.blocks[FINE_BLOCKS:]:
            x = block(x)
        rows = lambda maps, width: maps.permute(0, 2, 3, 1).reshape(len(maps), -1, width)  # noqa: E731
        scores = torch.cat([rows(self.score_fine(fine), 1), rows(self.score_coarse(x), 1)], dim=1)[:, :, 0]  # [N, 896]
        places = torch.cat([rows(self.place_fine(fine), 16), rows(self.place_coarse(x), 16)], dim=1)
        places = places.view(len(images), -1, 8, 2) / SIZE
        relative_to_anchor = torch.ones(8, 1, device=images.device)
        relative_to_anchor[1] = 0  # the box size is absolute
        return scores, places + self.anchors[:, None] * relative_to_anchor

    @torch.no_grad()
    def detect(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The best face of every image.

        Returns:
            scores [N] in [0, 1] and landmarks [N, 6, 2] in pixels: the four of module `alignment`, right and left ear.
        """
        height, width = images.shape[2:]
        side = round(max(height, width) * (1 + 2 * MARGIN))
        left, top = (side - width) // 2, (side - height) // 2
        pads = (left, side - width - left, top, side - height - top)
        square = F.pad(images, pads, mode="replicate")
        square = F.interpolate(square, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        scores, places = self(square)
        best = scores.argmax(1)
        index = torch.arange(len(images), device=images.device)
        landmarks = places[index, best, 2:] * side - torch.tensor([left, top], device=images.device)
        return scores[index, best].sigmoid(), landmarks


def anchor_centres() -> Tensor:
    """Centres of the 896 candidates: two per cell of the 16x16 map, six per cell of the 8x8 map. [896, 2]"""
    centres = []
    for cells, repeats in ((16, 2), (8, 6)):
        axis = (torch.arange(cells) + 0.5) / cells
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).view(-1, 2)
        centres.append(grid.repeat_interleave(repeats, dim=0))
    return torch.cat(centres)
