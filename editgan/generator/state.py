"""The state of a training: complete, to go on bit for bit, and light, to go on elsewhere.

The complete state holds both networks, their average, the heads of the projected discriminator and all optimisers. The
light state leaves out what can be had again at some cost: G begins as its average, Adam's moments begin at zero (the
learning rate then rises from zero over WARMUP_KIMG). It is float16 and small enough for git.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from editgan.errors import UserError
from editgan.runtime.environment import home_project
from editgan.training import STATE_FILE, load_state, save_state
from editgan.weights import load_tensors, save_halves

WARMUP_KIMG = 2.0  # after a light state
SHAPE = ("w_dim", "channel_base", "channel_max", "d_channel_base", "d_channel_max", "num_mapping_layers",
         "discriminator", "projected_width")  # fmt: skip


def state_folder(name: str | None, *, root: Path, work: Path) -> Path:
    """Where the complete state lies: under the training's name, which outlives renamed parameters, or in `work`."""
    return work if name is None else home_project(root) / "work" / "training" / name


def light_path(name: str, *, root: Path) -> Path:
    """The file of the light state of a named training; git may hold it."""
    return home_project(root) / "data" / "training" / f"{name}.safetensors"


def save_light(path: Path, state: dict[str, Any]) -> None:
    """Write what of a complete state cannot be computed again, in float16."""
    tensors = {f"{part}.{name}": t for part in ("G_ema", "D", "P") for name, t in state.get(part, {}).items()}
    kept = {name: state[name] for name in ("cur_nimg", "history", "settings")}
    save_halves(path, tensors, kept, remedy="the training has diverged; start from an older state")


def load_light(path: Path) -> dict[str, Any]:
    """The light state with the names of a complete one; it has no optimisers."""
    tensors, kept = load_tensors(path)
    state: dict[str, Any] = dict(kept)
    for part in ("G_ema", "D", "P"):
        state[part] = {
            name.removeprefix(f"{part}."): tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{part}.")
        }
    return {**state, "G": state["G_ema"], "warm_from": state["cur_nimg"]}


def find_state(folder: Path, light: Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    """The complete state in `folder`, else the light one, else {}. Says what it found and what differs.

    Args:
        settings: the generator's params of this run, plain values.

    Raises:
        UserError: a damaged file, or networks of other sizes than the params ask for.
    """
    source, state = folder / STATE_FILE, load_state(folder)
    if state is None and light is not None and light.exists():
        source, state = light, load_light(light)
    if state is None:
        return {}
    before = json.loads(state["settings"])
    changed = {key: (before.get(key), value) for key, value in settings.items() if before.get(key) != value}
    if shapes := [key for key in SHAPE if key in changed]:
        listed = "; ".join(f"{key} {changed[key][0]} there, {changed[key][1]} in the params" for key in shapes)
        raise UserError(
            f"{source}: its networks have other sizes ({listed}); give the training another name or delete the file"
        )
    print(f"generator: goes on from {source} at {state['cur_nimg'] / 1000:g} kimg", flush=True)
    for key, (old, new) in changed.items():
        print(f"generator: {key} was {old}, is now {new}", flush=True)
    return state


def networks_state(networks: dict[str, nn.Module]) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of each named network."""
    return {name: network.state_dict() for name, network in networks.items()}


def save_complete(folder: Path, state: dict[str, Any]) -> Path:
    """Write the complete state; the previous one stays until the new one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    return save_state(folder, state)
