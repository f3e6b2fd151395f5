"""Networks of random weights as the stages leave them, small enough for tests of everything that loads them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from editgan.data.archive import Classes, save_classes
from editgan.encoder.encoder import Encoder, save_encoder
from editgan.generator.generator import Generator
from editgan.segmentation.ensemble import SegmentationEnsemble, save_segmentation
from editgan.weights import save_module

SIDE = 32


def save_models(outputs: Path, names: Sequence[str], palette: np.ndarray) -> None:
    """Write generator, encoder, segmentation and class names below `outputs`; palette uint8 [classes, 3]."""
    torch.manual_seed(3)
    G = Generator(z_dim=16, w_dim=16, img_resolution=SIDE, channel_base=256, channel_max=16, num_mapping_layers=2)
    save_module(outputs / "generator" / "G_ema.safetensors", G, G.config)
    widths = dict(channel_base=256, channel_max=16, pyramid_width=8, head_width=8)
    E = Encoder(img_resolution=SIDE, num_ws=8, w_dim=16, **widths)
    for branch in E.heads:
        nn.init.normal_(branch.linear.weight)  # zero at first, so that every picture would get the same latent
    save_encoder(outputs / "encoder" / "E.safetensors", E)
    torch.manual_seed(3)  # with these weights every class occurs
    S = SegmentationEnsemble(feature_channels=G.feature_channels, num_classes=len(names), members=2, class_names=names)
    for weight in (S.weight1, S.weight2, S.weight3):
        nn.init.normal_(weight, std=0.5)
    save_segmentation(outputs / "segmentation" / "S.safetensors", S)
    (outputs / "data").mkdir()
    save_classes(outputs / "data" / "classes.json", Classes(names=names, palette=palette))
