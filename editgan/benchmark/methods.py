"""The methods that work on latents, behind one signature: embedded heads and a strength -> pictures."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from editgan.benchmark.baselines.localediting import convolutions, swapped_styles
from editgan.benchmark.smile import EDITGAN, synthesise
from editgan.editing.vectors import EditingVector, apply_vector
from editgan.errors import UserError
from editgan.generator.generator import Generator
from editgan.weights import load_tensors

INTERFACEGAN, CONDITIONAL, LOCALEDITING = "interfacegan", "interfacegan_conditional", "localediting"
METHODS = (EDITGAN, INTERFACEGAN, CONDITIONAL, LOCALEDITING)


Method = Callable[[Tensor, float], Tensor]  # (w_plus [N, num_ws, w_dim], strength) -> uint8 [N, 3, H, W]


def load_methods(
    outputs: Path, G: Generator, vector: EditingVector, *, batch: int, device: torch.device
) -> dict[str, Method]:
    """Every method by name, from what its stage left behind.

    Raises:
        UserError: a file is missing, damaged or of another generator.
    """
    path = outputs / "interfacegan" / "directions.safetensors"
    directions = load_tensors(path)[0]
    for name in ("smile", "smile_conditional"):
        if name not in directions or directions[name].shape != (G.w_dim,):
            raise UserError(f"{path}: holds no direction {name} of {G.w_dim} entries; run stage interfacegan again")
    path = outputs / "localediting" / "channels.safetensors"
    channels, count = load_tensors(path)[0], len(convolutions(G))
    try:
        masks = [channels[f"q{index:02d}"].to(device) for index in range(count)]
        styles = [channels[f"style{index:02d}"].to(device) for index in range(count)]
    except KeyError as missing:
        raise UserError(f"{path}: holds no {missing}; run stage localediting again") from None

    def along(delta: Tensor) -> Method:
        def edit(w_plus: Tensor, strength: float) -> Tensor:
            return synthesise(G, w_plus + strength * delta, batch=batch, device=device)

        return edit

    def by_vector(w_plus: Tensor, strength: float) -> Tensor:
        return synthesise(G, apply_vector(w_plus, vector, strength), batch=batch, device=device)

    def by_styles(w_plus: Tensor, strength: float) -> Tensor:
        with swapped_styles(G, masks, styles, strength):
            return synthesise(G, w_plus, batch=batch, device=device)

    return {
        EDITGAN: by_vector,
        INTERFACEGAN: along(directions["smile"]),
        CONDITIONAL: along(directions["smile_conditional"]),
        LOCALEDITING: by_styles,
    }
