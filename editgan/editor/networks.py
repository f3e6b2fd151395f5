"""The networks of a run, and whether they, latents and vectors belong to one generator."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from editgan.data.archive import Classes, load_classes
from editgan.encoder.encoder import Encoder, load_encoder
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.runtime.graph import content_hash
from editgan.segmentation.ensemble import SegmentationEnsemble, load_segmentation
from editgan.weights import sha256

MODELS = {
    "assets/lpips_vgg.safetensors": "assets",
    "data/classes.json": "data",
    "generator/G_ema.safetensors": "generator",
    "encoder/E.safetensors": "encoder",
    "segmentation/S.safetensors": "segmentation",
}  # the editor's files, and the stages that write them
G_EMA, E_FILE, S_FILE = "generator/G_ema.safetensors", "encoder/E.safetensors", "segmentation/S.safetensors"
CLASSES = "data/classes.json"
IN_LOCK = re.compile(r"^  segmentation:\n(?:    .*\n)*", re.MULTILINE)  # of dvc.lock, which is long


@dataclass(frozen=True)
class Origin:
    """The generator's file and its hash, which latents and vectors record."""

    path: Path
    sha256: str

    def check(self, path: str | Path, recorded: str) -> None:
        """Raise UserError if a file records another generator; files of stages record none."""
        if recorded and recorded != self.sha256:
            raise UserError(f"{path}: was made with another generator than {self.path}; make it again with this one")


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
    origin = Origin(outputs / G_EMA, sha256(outputs / G_EMA))
    G, E = load_generator(outputs / G_EMA, device), load_encoder(outputs / E_FILE, device)
    networks = Networks(G, E, load_segmentation(outputs / S_FILE, device), load_classes(outputs / CLASSES), origin)
    fault = _fault(networks, outputs) or _stale(outputs)
    if fault:
        raise UserError(f"{fault}; use files of one run")
    return networks


def _fault(networks: Networks, outputs: Path) -> str | None:
    """Two files that do not fit. E keeps the generator's w_avg, S the widths of its feature maps."""
    G, E, S, classes = networks.G, networks.E, networks.S, networks.classes
    of_G, of_E, of_S = outputs / G_EMA, outputs / E_FILE, outputs / S_FILE
    takes, makes = (f"{one.img_resolution}x{one.img_resolution} with w_plus {one.num_ws}x{one.w_dim}" for one in (E, G))
    if takes != makes:
        return f"{of_E}: is for pictures of {takes}, but {of_G} makes {makes}"
    if list(S.feature_channels) != list(G.feature_channels):
        maps = [
            f"{len(widths)} feature maps of {sum(widths)} channels"
            for widths in (S.feature_channels, G.feature_channels)
        ]
        return f"{of_S}: reads {maps[0]}, but {of_G} ({G.img_resolution}x{G.img_resolution}) has {maps[1]}"
    if S.num_classes != len(classes.names) or (S.class_names and S.class_names != classes.names):
        return f"{of_S}: has other parts ({', '.join(S.class_names)}) than {outputs / CLASSES}"
    if not torch.equal(E.w_avg, G.w_avg):
        return f"{of_E}: was trained with another generator than {of_G} (their w_avg differ)"
    return None


def _stale(outputs: Path) -> str | None:
    """S, if it is the one in the dvc.lock beside the folder, which was trained with another generator."""
    try:
        section = IN_LOCK.search((outputs.absolute().parent / "dvc.lock").read_text())
        (stage,) = yaml.safe_load(section[0]).values()
        listed = {item["path"]: item["md5"] for item in (*stage["deps"], *stage["outs"])}
        made, used = listed[f"outputs/{S_FILE}"], listed[f"outputs/{G_EMA}"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):  # only outputs were copied
        return None
    if used == content_hash(outputs / G_EMA) or made != content_hash(outputs / S_FILE):
        return None
    return f"{outputs / S_FILE}: was trained with another generator than {outputs / G_EMA} (by dvc.lock)"
