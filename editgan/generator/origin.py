"""Fine-tuning: start from the networks of another run, to train on other pictures."""

from pathlib import Path
from typing import Any

from torch import nn

from editgan.errors import UserError
from editgan.generator.params import GeneratorParams
from editgan.runtime.environment import home_project
from editgan.weights import load_metadata, load_module, sha256

FREE = {"mbstd_group"}  # arguments of D that may differ


def origin_folder(params: GeneratorParams, root: Path) -> Path | None:
    """The folder `generator.start_from`; None to train from scratch.

    Raises:
        UserError: its generator is missing, or not the one that start_from_sha256 names.
    """
    if params.start_from is None:
        return None
    folder = home_project(root) / params.start_from
    path = folder / "G_ema.safetensors"
    if not path.exists():
        raise UserError(f"generator.start_from {params.start_from}: {path} is missing; run that pipeline first")
    if (found := sha256(path)) != params.start_from_sha256:
        raise UserError(f"{path}: sha256 is {found}, but generator.start_from_sha256 is {params.start_from_sha256}")
    return folder


def load_origin(folder: Path, G: nn.Module, D: nn.Module) -> dict[str, Any]:
    """The networks of another run as the state of a training that starts now, with a learning rate that warms up.

    G starts as that run's G_ema. Optimisers and the projected discriminator start afresh.

    Args:
        G, D: networks of the sizes that the params ask for

    Raises:
        UserError: a file is missing or damaged, or its network has another size.
    """
    state: dict[str, Any] = {"warm_from": 0}
    for name, network in (("G_ema", G), ("D", D)):
        path = folder / f"{name}.safetensors"
        if name == "D" and path.is_file() and not load_metadata(path).get("class"):
            raise UserError(f"{path}: the imported file has no discriminator; start from a run that has one")
        other = load_module(path, type(network))
        for key in {**other.config, **network.config}:
            theirs, ours = other.config.get(key), network.config.get(key)
            if theirs == ours:
                continue
            if key == "conv_clamp":
                fault = f"limits its convolutions (conv_clamp {theirs}), which training here does not"
                raise UserError(f"{path}: {fault}; use the generator as it is, with generator.from_file")
            if key not in FREE:
                raise UserError(
                    f"{path}: was trained with {key} {theirs}, but params have {ours}; use the sizes of that run"
                )
            print(f"generator: {name} was trained with {key} {theirs}; it goes on with {ours}", flush=True)
        state[name] = other.state_dict()
    return state | {"G": state["G_ema"]}
