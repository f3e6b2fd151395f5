"""How near reconstructions are to their pictures, and whether the model can represent a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editgan.assets.load import load_network
from editgan.data.archive import load_images
from editgan.data.protocol import SMILE, Protocol
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.images import to_float

OWN_KIND = 80  # maximum number of validation pictures to estimate the model's usual reconstruction quality
USUAL = 0.95  # share of the validation pictures that are reconstructed at least as well as a picture must be


@dataclass(frozen=True)
class Likeness:
    """Similarity of a reconstruction to its image, by networks that are not used for embedding."""

    lpips: float  # LPIPS-Alex
    kept: float  # cosine of the features of the protocol's `kept_by`
    name: str = SMILE.kept  # of `kept`: identity for faces, else similarity

    def __str__(self) -> str:
        return f"LPIPS-Alex {self.lpips:.3f}, {self.name} {self.kept:.2f}"


@dataclass(frozen=True)
class Representation:
    """Whether the model can represent a picture: its likeness, and that of the model's own kind of pictures."""

    found: Likeness
    usual: Likeness | None  # None: unknown, because the validation pictures are missing
    unknown: str = ""  # why `usual` is unknown

    @property
    def possible(self) -> bool | None:
        """Whether both measures are as good as usual; None: unknown."""
        if self.usual is None:
            return None
        return self.found.lpips <= self.usual.lpips and self.found.kept >= self.usual.kept

    def __str__(self) -> str:
        if self.usual is None:
            return f"cannot compare this with the model's usual reconstructions ({self.found}; {self.unknown})"
        least = f"95 % of its validation pictures reach {self.usual.lpips:.3f} and {self.usual.kept:.2f}"
        if self.possible:
            return f"the model can represent this picture ({self.found}; {least})"
        return f"the model cannot represent this picture ({self.found}; {least}); edits will not work well"


@torch.no_grad()
def likenesses(images: Tensor, reconstructions: Tensor, assets: Path, protocol: Protocol = SMILE) -> list[Likeness]:
    """Similarities of aligned images and their reconstructions, uint8 [N, 3, H, W] each."""
    x, y = to_float(images), to_float(reconstructions)
    lpips, features = load_network("lpips_alex", assets), load_network(protocol.kept_by, assets)
    cosines = F.cosine_similarity(features(x), features(y))
    return [Likeness(*pair, protocol.kept) for pair in zip(lpips(x, y).tolist(), cosines.tolist(), strict=True)]


def usual_likeness(
    render: Callable[[Tensor], Tensor], outputs: Path, assets: Path, protocol: Protocol = SMILE
) -> Likeness:
    """The similarity that 95 % of the model's validation pictures reach, separately for each measure.

    Args:
        render: the pictures of latents, uint8 (`Editor.render`)
        outputs: the model's folder of outputs
        assets: folder of the pretrained networks
    Raises:
        UserError: the pictures or their latents are missing.
    """
    latents, pictures = outputs / "encoder" / "latents.safetensors", outputs / "data" / "val.zip"
    for path, stage in ((latents, "encoder"), (pictures, "data")):
        if not path.exists():
            raise UserError(f"{path.relative_to(outputs)} is missing; stage {stage} writes it")
    w_plus = load_latents(latents)["val"]
    images = torch.as_tensor(load_images(pictures, range(min(OWN_KIND, len(w_plus)))))
    found = likenesses(images, render(w_plus[: len(images)]).cpu(), assets, protocol)
    lpips, kept = torch.tensor([[one.lpips, one.kept] for one in found]).T
    return Likeness(float(lpips.quantile(USUAL)), float(kept.quantile(1 - USUAL)), protocol.kept)


def represented(
    photos: Tensor,
    images: Tensor,
    render: Callable[[Tensor], Tensor],
    outputs: Path,
    assets: Path,
    protocol: Protocol,
    known: dict[str, Any],
) -> list[Representation]:
    """Whether the model can represent photos, from their reconstructions, uint8 [N, 3, H, W] each.

    Args:
        render: the pictures of latents, uint8 (`Editor.render`)
        outputs: the model's folder of outputs
        assets: folder of the pretrained networks; an imported generator uses those of another run
        protocol: tells whether they are faces, and the network that compares them
        known: what is computed only once is kept here
    """
    if "usual" not in known:
        try:
            known["usual"] = usual_likeness(render, outputs, assets, protocol), ""
        except UserError as fault:
            known["usual"] = None, str(fault)
    return [Representation(one, *known["usual"]) for one in likenesses(photos, images.cpu(), assets, protocol)]
