"""Load published reference networks from the user's files; see section `assets` of the params for their paths."""

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.assets.fetch import check_sha256
from editgan.assets.networks.ir_se50 import IrSe50
from editgan.errors import UserError
from editgan.runtime.environment import home_project

REMEDY = "to run without it, set its key in section `assets` of the params to null"


def load_reference_inception(path: str | Path, sha256: str | None = None) -> nn.Module:
    """FID's Inception from pt_inception-2015-12-05-6726825d.pth: float [-1, 1] images -> [N, 2048].

    Raises:
        UserError: the file is missing, altered, not a state dict, or of another network.
    """
    from editgan.assets.networks.reference_inception import ReferenceInception  # imports torchvision: seconds

    weights = read_state_dict(path, sha256)
    try:
        network = ReferenceInception(weights=weights)
    except RuntimeError as error:
        raise UserError(f"{path}: not the Inception network of FID ({error}); {REMEDY}") from error
    return network.eval().requires_grad_(False)


def load_ir_se50(path: str | Path, sha256: str | None = None) -> nn.Module:
    """The ArcFace IR-SE50 from model_ir_se50.pth (TreB1eN/InsightFace_Pytorch): float [-1, 1] images -> [N, 512].

    Raises:
        UserError: the file is missing, altered, not a state dict, or of another network.
    """
    weights, network = read_state_dict(path, sha256), IrSe50()
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path}: not an IR-SE50 in the layout of InsightFace_Pytorch ({error}); {REMEDY}") from error
    return network.eval().requires_grad_(False)


def read_state_dict(path: str | Path, sha256: str | None) -> dict[str, Tensor]:
    """Named tensors of a PyTorch file (path relative to the project); nothing else is unpickled."""
    path = home_project() / path
    if not path.is_file():
        raise UserError(f"{path}: no such file; {REMEDY}")
    if sha256 is not None:
        check_sha256(path, sha256)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{path}: not a plain state dict ({error}); {REMEDY}") from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise UserError(f"{path}: not a plain state dict of named tensors; {REMEDY}")
    return weights
