"""Whether networks, latents and vectors belong to one generator. Files of another one are refused in one line."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml

from editgan.encoder.encoder import Encoder
from editgan.errors import UserError
from editgan.generator.generator import Generator
from editgan.runtime.graph import content_hash
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.weights import load_metadata, sha256

FOREIGN = 0.6  # `statistics_gap` is 0.1 to 0.5 with S's own generator, and 0.7 to 3.9 with another one of equal size
LEAST_BATCHES = 50  # with fewer, S's statistics are still near their start
LARGEST = 256  # side in pixels; larger generators take seconds to draw two samples
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
    hash. A dvc.lock beside the folder of outputs tells more, if it lists the file as it is. If the statistics of its
    first layer are not those of the generator's samples, a warning says that it was probably trained for another one.
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
    if statistics_gap(S, G) > FOREIGN:
        fault = f"was probably trained with another generator than {origin.path}: its statistics differ"
        warnings.warn(f"{path}: {fault}; use files of one run", stacklevel=2)


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


@torch.no_grad()
def statistics_gap(S: SegmentationEnsemble, G: Generator) -> float:
    """How much S's first layer varies in samples of G, relative to its training: the median of |log| over its channels.

    0 if S keeps no statistics, or if G is larger than LARGEST.
    """
    if S.norm1.num_batches_tracked < LEAST_BATCHES or G.img_resolution > LARGEST:
        return 0.0
    z = torch.randn(2, G.z_dim, generator=torch.Generator().manual_seed(0)).to(G.w_avg.device)
    _, features = G.synthesis_features(G.mapping(z, truncation_psi=0.7))
    side, offset, hidden = min(32, G.img_resolution), 0, 0
    for maps in features:
        weight = S.weight1[..., offset : offset + maps.shape[1]].flatten(0, 1)  # [M * H1, C_k]
        offset += maps.shape[1]
        small = F.interpolate(maps, size=(side, side), mode="area") if maps.shape[-1] > side else maps
        projected = F.conv2d(small, weight[:, :, None, None])
        hidden = hidden + F.interpolate(projected, size=(side, side), mode="bilinear", align_corners=False)
    hidden = (hidden + S.bias1.flatten()[:, None, None]).relu()  # [2, M * H1, side, side]
    ratio = (hidden.var((0, 2, 3)) + S.norm1.eps) / (S.norm1.running_var + S.norm1.eps)
    return float(ratio.log().abs().median())
