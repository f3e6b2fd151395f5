"""The networks of a run, which must belong to one generator."""

from dataclasses import dataclass
from pathlib import Path

import torch

from editgan.data.archive import Classes, load_classes
from editgan.editor.origin import Origin, check_encoder, check_segmentation, origin_of
from editgan.encoder.encoder import Encoder, load_encoder
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.segmentation.ensemble import SegmentationEnsemble, load_segmentation

MODELS = {
    "assets/lpips_vgg.safetensors": "assets",
    "data/classes.json": "data",
    "generator/G_ema.safetensors": "generator",
    "encoder/E.safetensors": "encoder",
    "segmentation/S.safetensors": "segmentation",
}  # the editor's files, and the stages that write them
_, CLASSES, G_EMA, ENCODER, ENSEMBLE = MODELS


@dataclass(frozen=True)
class Networks:
    """The trained networks of a folder of outputs."""

    G: Generator
    E: Encoder
    S: SegmentationEnsemble
    classes: Classes
    origin: Origin


def load_networks(outputs: Path, device: torch.device) -> Networks:
    """Load the networks and check that all were trained with the generator of the folder.

    Raises:
        UserError: a file is missing or damaged, or two files do not belong together; the message names both.
    """
    for name, stage in MODELS.items():
        if not (outputs / name).is_file():
            raise UserError(
                f"{outputs / name}: missing; it is written by stage {stage}: run `make demo`, or give another folder "
                "of outputs"
            )
    G, origin = load_generator(outputs / G_EMA, device), origin_of(outputs / G_EMA)
    E, S = load_encoder(outputs / ENCODER, device), load_segmentation(outputs / ENSEMBLE, device)
    check_encoder(outputs / ENCODER, E, origin, G)
    check_segmentation(outputs / ENSEMBLE, S, origin, G)
    classes = load_classes(outputs / CLASSES)
    if S.num_classes != len(classes.names) or (S.class_names and S.class_names != classes.names):
        raise UserError(f"{outputs / ENSEMBLE}: has other parts ({', '.join(S.class_names)}) than {outputs / CLASSES}")
    return Networks(G, E, S, classes, origin)
