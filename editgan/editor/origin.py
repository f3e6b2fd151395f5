"""Whether networks, latents and vectors belong to one generator. Files of another one are refused in one line."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from editgan.encoder.encoder import Encoder
from editgan.errors import UserError
from editgan.generator.generator import Generator
from editgan.runtime.graph import content_hash
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.weights import load_metadata, sha256

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


def origin_of(path: Path) -> Origin:
    """The origin of what is made with a generator's file."""
    return Origin(path, sha256(path))


def check_encoder(path: Path, E: Encoder, origin: Origin, G: Generator) -> None:
    """Raise UserError if an encoder was trained for another generator, of which it keeps w_avg."""
    takes, makes = (f"{one.img_resolution}x{one.img_resolution} with w_plus {one.num_ws}x{one.w_dim}" for one in (E, G))
    if takes != makes:
        raise UserError(f"{path}: is for pictures of {takes}, but {origin.path} makes {makes}; use files of one run")
    if not torch.equal(E.w_avg.half(), G.w_avg.half()):  # trained networks are stored in half precision
        fault = f"was trained with another generator than {origin.path} (their w_avg differ)"
        raise UserError(f"{path}: {fault}; use files of one run")


def check_segmentation(path: Path, S: SegmentationEnsemble, origin: Origin, G: Generator) -> None:
    """Raise UserError if a segmentation was trained for another generator.

    It keeps the widths of the generator's feature maps; one that was trained outside the pipeline also the generator's
    hash. A dvc.lock beside the folder of outputs tells more, if it lists the file as it is.
    """
    if list(S.feature_channels) != list(G.feature_channels):
        reads, has = (
            f"{len(one.feature_channels)} feature maps, {sum(one.feature_channels)} channels" for one in (S, G)
        )
        fault = f"reads {reads}, but {origin.path} ({G.img_resolution}x{G.img_resolution}) has {has}"
        raise UserError(f"{path}: {fault}; use files of one run")
    if recorded := load_metadata(path).get("generator"):
        origin.check(path, recorded)
        return
    if in_lock_with_another(path, origin):
        fault = f"was trained with another generator than {origin.path}, as dvc.lock says"
        raise UserError(f"{path}: {fault}; use files of one run")


def in_lock_with_another(path: Path, origin: Origin) -> bool:
    """Whether a dvc.lock beside the folder of outputs lists the segmentation as it is, and another generator."""
    outputs = path.absolute().parents[1]
    try:
        (stage,) = yaml.safe_load(IN_LOCK.search((outputs.parent / "dvc.lock").read_text())[0]).values()
        listed = {item["path"]: item["md5"] for item in (*stage["deps"], *stage["outs"])}
        made, used = listed["outputs/segmentation/S.safetensors"], listed["outputs/generator/G_ema.safetensors"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):  # only outputs were copied
        return False
    return used != content_hash(origin.path) and made == content_hash(path)
