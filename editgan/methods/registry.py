"""The latent-space methods with a common signature: embedded heads -> (strength -> edited latents)."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from editgan.data.paste import paste_back
from editgan.data.protocol import load_protocol
from editgan.editing.masks import edit_region
from editgan.editing.vectors import EditingVector, apply_vector, load_vector
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator, synthesise
from editgan.methods.localediting.channels import convolutions, swapped_styles
from editgan.methods.smile import EDITGAN, PLUS
from editgan.segmentation.ensemble import SegmentationEnsemble, load_segmentation
from editgan.segmentation.predict import render
from editgan.weights import load_tensors

INTERFACEGAN, CONDITIONAL = "interfacegan", "interfacegan_conditional"
LOCALEDITING = "localediting"

EditAt = Callable[[float], AbstractContextManager[Tensor]]  # strength -> context with the edited w_plus for G
Method = Callable[[Tensor], EditAt]  # argument: w_plus of the heads, [N, num_ws, w_dim]


@dataclass(frozen=True)
class Renderer:
    """Renders edited latents as pictures, with and without paste-back."""

    G: Generator
    S: SegmentationEnsemble
    parts: tuple[str, ...]  # the edited parts

    def pictures(self, edited: AbstractContextManager[Tensor]) -> Tensor:
        """Render the edited heads.  # uint8 [N, 3, H, W]"""
        with edited as w_plus:
            return synthesise(self.G, w_plus)

    def both(
        self, edited: AbstractContextManager[Tensor], photos: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (pictures, pasted back, masks). Pasted back: only the edit region and its seam differ from the photos.

        photos: uint8 [N, 3, H, W]; before: S's masks of the unedited heads, labels  # uint8 [N, H, W]
        """
        with edited as w_plus:
            pictures, after = render(self.G, self.S, w_plus)
        region = edit_region(before, after, self.S.class_ids(self.parts))
        return pictures, paste_back(photos, pictures, region), after


def load_methods(
    outputs: Path, *, vector: str, plus: str, device: torch.device
) -> tuple[dict[str, EditingVector], dict[str, Method], Renderer]:
    """Load the vectors of EditGAN and EditGAN+ (ours: the mean over several heads), all methods, and the renderer."""
    G = load_generator(outputs / "generator" / "G_ema.safetensors", device)
    S = load_segmentation(outputs / "segmentation" / "S.safetensors", device)
    first, several = (load_vector(outputs / "editing" / "vectors" / f"{name}.safetensors") for name in (vector, plus))
    path = outputs / "interfacegan" / "directions.safetensors"
    directions, attribute = load_tensors(path)[0], load_protocol(outputs / "data").attribute
    for name in (attribute, f"{attribute}_conditional"):
        if name not in directions or directions[name].shape != (G.w_dim,):
            raise UserError(f"{path}: has no direction {name} of {G.w_dim} entries; run stage interfacegan again")
    path = outputs / "localediting" / "channels.safetensors"
    channels, count = load_tensors(path)[0], len(convolutions(G))
    try:
        masks = [channels[f"q{index:02d}"].to(device) for index in range(count)]
        styles = [channels[f"style{index:02d}"].to(device) for index in range(count)]
    except KeyError as missing:
        raise UserError(f"{path}: has no {missing}; run stage localediting again") from None

    def moving(move: Callable[[Tensor, float], Tensor]) -> Method:
        return lambda w_plus: lambda strength: contextlib.nullcontext(move(w_plus, strength))

    def by_styles(w_plus: Tensor) -> EditAt:
        @contextlib.contextmanager
        def swapped(strength: float) -> Iterator[Tensor]:
            with swapped_styles(G, masks, styles, strength):
                yield w_plus

        return swapped

    methods = {
        EDITGAN: moving(lambda w_plus, strength: apply_vector(w_plus, first, strength)),
        PLUS: moving(lambda w_plus, strength: apply_vector(w_plus, several, strength)),
        INTERFACEGAN: moving(lambda w_plus, strength: w_plus + strength * directions[attribute]),
        CONDITIONAL: moving(lambda w_plus, strength: w_plus + strength * directions[f"{attribute}_conditional"]),
        LOCALEDITING: by_styles,
    }
    renderer = Renderer(G=G, S=S, parts=first.region_classes)
    return {EDITGAN: first, PLUS: several}, methods, renderer
