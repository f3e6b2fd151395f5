"""Training states. The complete state resumes bit for bit. The light state is small enough to be shared through git.

The complete state contains both networks, the EMA of G, the projected discriminator and all optimisers.
The light state has the EMA, D and the projected discriminator. From it, G starts as its EMA and Adam's moments start
at zero, so the learning rate warms up over WARMUP_KIMG. It is float16.
"""

import json
from pathlib import Path
from typing import Any

from editgan.errors import UserError
from editgan.runtime.environment import home_project
from editgan.training import STATE_FILE, load_state
from editgan.weights import load_tensors, save_halves

WARMUP_KIMG = 2.0  # learning rate warm-up after resuming from a light state
SHAPE = ("w_dim", "channel_base", "channel_max", "d_channel_base", "d_channel_max", "num_mapping_layers",
         "discriminator", "projected_width")  # fmt: skip


def state_folder(name: str | None, *, root: Path, work: Path) -> Path:
    """Folder of the complete state: that of the named training, which survives renamed parameters, else `work`."""
    return work if name is None else home_project(root) / "work" / "training" / name


def light_path(name: str, *, root: Path) -> Path:
    """Path of the light state of a named training; it may be committed to git."""
    return home_project(root) / "data" / "training" / f"{name}.safetensors"


def save_light(path: Path, state: dict[str, Any]) -> None:
    """Write the light state of a complete state, in float16."""
    tensors = {f"{part}.{name}": t for part in ("G_ema", "D", "P") for name, t in state.get(part, {}).items()}
    kept = {name: state[name] for name in ("cur_nimg", "history", "settings")}
    save_halves(path, tensors, kept, remedy="the training has diverged; start from an older state")


def load_light(path: Path) -> dict[str, Any]:
    """Read a light state, with the keys of a complete one but without optimisers."""
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
    """The complete state in `folder`, else the light state, else {}. Prints its source and changed settings.

    Args:
        settings: the generator's params of this run, as plain values.

    Raises:
        UserError: a damaged file, or network sizes that differ from the params.
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
            f"{source}: its network sizes differ ({listed}); give the training another name or delete the file"
        )
    print(f"generator: resuming from {source} at {state['cur_nimg'] / 1000:g} kimg", flush=True)
    for key, (old, new) in changed.items():
        print(f"generator: {key} changed from {old} to {new}", flush=True)
    return state
