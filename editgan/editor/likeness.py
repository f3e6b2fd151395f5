"""How near reconstructions are to their pictures, and whether the model can represent a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.data.archive import load_images
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.images import to_float

OWN_KIND = 80  # maximum number of validation pictures to estimate the model's usual reconstruction quality
USUAL = 0.95  # share of the validation pictures that are reconstructed at least as well as a picture must be


@dataclass(frozen=True)
class Likeness:
    """Similarity of a reconstruction to its image, by networks that are not used for embedding."""

    lpips: float  # LPIPS-Alex
    identity: float  # cosine of MobileFaceNet's features

    def __str__(self) -> str:
        return f"LPIPS-Alex {self.lpips:.3f}, identity {self.identity:.2f}"


@dataclass(frozen=True)
class Representation:
    """Whether the model can represent a face: its likeness, and that of the model's own kind of pictures."""

    found: Likeness
    usual: Likeness | None  # None: unknown, because the validation pictures are missing
    unknown: str = ""  # why `usual` is unknown

    @property
    def possible(self) -> bool | None:
        """Whether both measures are as good as usual; None: unknown."""
        if self.usual is None:
            return None
        return self.found.lpips <= self.usual.lpips and self.found.identity >= self.usual.identity

    def __str__(self) -> str:
        if self.usual is None:
            return f"cannot compare this with the model's usual reconstructions ({self.unknown})"
        least = f"95 % of its validation pictures reach {self.usual.lpips:.3f} and {self.usual.identity:.2f}"
        if self.possible:
            return f"the model can represent this face ({self.found}; {least})"
        return f"the model cannot represent this face ({self.found}; {least}); edits will not work well"


@torch.no_grad()
def likenesses(images: Tensor, reconstructions: Tensor, assets: Path) -> list[Likeness]:
    """Similarities of aligned images and their reconstructions, uint8 [N, 3, H, W] each."""
    x, y = to_float(images), to_float(reconstructions)
    lpips, face = load_network("lpips_alex", assets), load_network("mobilefacenet", assets)
    cosines = (face(x) * face(y)).sum(1)
    return [Likeness(*pair) for pair in zip(lpips(x, y).tolist(), cosines.tolist(), strict=True)]


def usual_likeness(render: Callable[[Tensor], Tensor], outputs: Path, assets: Path) -> Likeness:
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
            raise UserError(f"{path}: missing; it is written by stage {stage}")
    w_plus = load_latents(latents)["val"]
    images = torch.as_tensor(load_images(pictures, range(min(OWN_KIND, len(w_plus)))))
    found = likenesses(images, render(w_plus[: len(images)]).cpu(), assets)
    lpips, identity = torch.tensor([[one.lpips, one.identity] for one in found]).T
    return Likeness(float(lpips.quantile(USUAL)), float(identity.quantile(1 - USUAL)))


def represented(
    photos: Tensor,
    images: Tensor,
    render: Callable[[Tensor], Tensor],
    outputs: Path,
    assets: Path,
    known: dict[str, Any],
) -> list[Representation]:
    """Whether the model can represent photos, from their reconstructions, uint8 [N, 3, H, W] each.

    Args:
        render: the pictures of latents, uint8 (`Editor.render`)
        outputs: the model's folder of outputs
        assets: folder of the pretrained networks; an imported generator uses those of another run
        known: what is computed only once is kept here
    """
    if "usual" not in known:
        try:
            known["usual"] = usual_likeness(render, outputs, assets), ""
        except UserError as fault:
            known["usual"] = None, str(fault)
    return [Representation(one, *known["usual"]) for one in likenesses(photos, images.cpu(), assets)]
