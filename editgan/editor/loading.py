"""Find and load the networks of an editor: those of a run, or an imported generator with whatever it has so far."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from editgan.data.archive import NO_PARTS, load_classes
from editgan.data.protocol import load_protocol
from editgan.editing.vectors import EditingVector, load_vectors
from editgan.editor.networks import MODELS
from editgan.editor.origin import check_encoder, check_segmentation, origin_of
from editgan.editor.settings import EmbeddingSettings, Settings, run_settings
from editgan.encoder.encoder import Encoder, load_encoder
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.runtime.environment import home_project
from editgan.segmentation.ensemble import SegmentationEnsemble, load_segmentation
from editgan.weights import load_metadata

LPIPS, CLASSES, G_EMA, ENCODER, ENSEMBLE = MODELS
STEPS = 500  # of embedding without an encoder, as in StyleGAN2's projector
NO_ENSEMBLE = (
    "this generator has no segmentation yet: label 16 pictures (docs/import.md) and run `editgan train segmentation`"
)


class FromMean(nn.Module):
    """In the place of an encoder: every image starts at the mean latent.  # images -> w_plus [N, num_ws, w_dim]"""

    def __init__(self, G: Generator) -> None:
        super().__init__()
        self.num_ws = G.num_ws
        self.register_buffer("w_avg", G.w_avg.clone())

    def forward(self, images: Tensor) -> Tensor:
        return self.w_avg.expand(len(images), self.num_ws, -1)


class NoSegmentation(nn.Module):
    """In the place of a segmentation: every pixel is background. What needs parts raises UserError."""

    class_names: list[str] = []

    def predict(self, features: list[Tensor], size: int) -> Tensor:
        return torch.zeros(len(features[0]), size, size, dtype=torch.uint8)

    def class_ids(self, names: tuple[str, ...]) -> list[int]:
        return []

    def forward(self, *_) -> NoReturn:
        raise UserError(NO_ENSEMBLE)

    def pixel_logits(self, *_) -> NoReturn:
        raise UserError(NO_ENSEMBLE)

    mean_logits = pixel_logits


def require_segmentation(S: nn.Module, vector: EditingVector | None = None) -> None:
    """Raise UserError without a segmentation, or for a vector to refine that names no parts.

    Without parts, refinement would only pull the picture back to the unedited one.
    """
    if isinstance(S, NoSegmentation):
        raise UserError(NO_ENSEMBLE)
    if vector is not None and not vector.region_classes:
        raise UserError(
            f"{vector.name}: names no parts, so it cannot be refined; import it again with --parts, or set refine to 0"
        )


@dataclass(frozen=True)
class Found:
    """Files of an editor; None: the generator does not have this network yet."""

    outputs: Path
    G_ema: Path
    encoder: Path | None
    segmentation: Path | None
    assets: Path

    def load(self, device: torch.device, vectors: Path | str | None) -> dict[str, Any]:
        """Networks, colours, vectors and settings by the names of the editor's fields.

        Raises:
            UserError: a file is damaged, or a network was trained for another generator.
        """
        G = load_generator(self.G_ema, device)
        E: Encoder | FromMean = FromMean(G).to(device)
        S: SegmentationEnsemble | NoSegmentation = NoSegmentation()
        classes, settings, origin = NO_PARTS, run_settings(self.outputs), origin_of(self.G_ema)
        if self.encoder is not None:
            E = load_encoder(self.encoder, device)
            check_encoder(self.encoder, E, origin, G)
        elif not (self.outputs.absolute().parent / "params.yaml").exists():
            embedding = EmbeddingSettings(inversion_steps=STEPS)
            settings = Settings(encoder=embedding, editing=settings.editing)
        if self.segmentation is not None:
            S = load_segmentation(self.segmentation, device)
            check_segmentation(self.segmentation, S, origin, G)
            classes = load_classes(self.outputs / CLASSES)
            if S.num_classes != len(classes.names) or (S.class_names and S.class_names != classes.names):
                fault = f"has other parts ({', '.join(S.class_names)}) than {self.outputs / CLASSES}"
                raise UserError(f"{self.segmentation}: {fault}")
        return dict(
            outputs=self.outputs,
            G=G,
            E=E,
            S=S,
            origin=origin,
            protocol=load_protocol(self.outputs / "data"),
            palette=torch.as_tensor(classes.palette),
            vectors=load_vectors(self.outputs / "editing" / "vectors", vectors),
            settings=settings,
        )


def find(outputs: str | Path, generator: str | Path | None = None) -> Found:
    """The files of a folder of stage outputs.

    Args:
        generator: a G_ema.safetensors, or the folder of its run. The networks in its folder of outputs are used, if
            there are any; it works alone, too. None: the generator of `outputs`, which works alone if it was imported.
    Raises:
        UserError: a file is missing, with the stage that writes it.
    """
    if generator is not None:
        given = Path(generator)
        path = next((one for one in (given, given / G_EMA, given / "outputs" / G_EMA) if one.is_file()), given)
        if not path.is_file():
            raise UserError(f"{path}: missing; `editgan import generator` writes a G_ema.safetensors")
        outputs, alone = path.parents[1] if path.parent.name == "generator" else path.parent, True
    else:
        outputs = Path(outputs)
        path = outputs / G_EMA
        alone = path.is_file() and "imported" in load_metadata(path)
    places = (outputs, home_project() / "outputs") if alone else (outputs,)
    assets = next((place / "assets" for place in places if (place / LPIPS).is_file()), outputs / "assets")
    needed = {LPIPS: assets / Path(LPIPS).name, G_EMA: path}
    if not alone:
        needed = {name: outputs / name for name in MODELS}
    elif (outputs / ENSEMBLE).is_file():
        needed[CLASSES] = outputs / CLASSES
    for name, file in needed.items():
        if not file.is_file():
            raise UserError(
                f"{file}: missing; it is written by stage {MODELS[name]}: run `make demo`, or give another folder of"
                " outputs"
            )
    optional = [outputs / name if (outputs / name).is_file() else None for name in (ENCODER, ENSEMBLE)]
    return Found(outputs, path, *optional, assets)
