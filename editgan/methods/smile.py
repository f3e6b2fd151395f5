"""The smile protocol (EditGAN, section 4.2): neutral test heads are edited to smile, then judged.

Rows: the input photo, its reconstruction, the edit of every method, EditGAN's edit after refinement, and the same head
truly smiling, which is the upper bound. Photographs lack the last row and all metrics that need it. All rows are
quantised to 8 bits first, like pictures on disk.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.data.archive import count, holds_masks, load_attributes, load_classes, load_images, load_masks
from editgan.data.paste import dilate
from editgan.editing.masks import MOUTH, edit_region, is_part
from editgan.editing.params import OptimizationParams
from editgan.editing.refine import refine
from editgan.editing.vectors import EditingVector
from editgan.errors import UserError
from editgan.images import to_uint8
from editgan.weights import load_tensors, save_tensors

INPUT, RECONSTRUCTION, EDITGAN, TRULY_SMILING = "input", "reconstruction", "editgan", "truly_smiling"
DISTILLATION, MASKGAN = "distillation", "maskgan"
FROM_PHOTOS = (DISTILLATION, MASKGAN)  # methods that edit the photo directly: no embedding, no strength
ROOM = 16  # without true smiles, the smile region is the neutral mouth dilated by side / ROOM


def refined_name(steps: int) -> str:
    """Name of the row after refinement, e.g. `editgan_30`."""
    return f"{EDITGAN}_{steps}"


@dataclass(frozen=True)
class SmileHeads:
    """The heads of the benchmark; all fields have the same order."""

    photos: Tensor  # uint8 [N, 3, H, W], neutral
    smiling: Tensor | None  # uint8 [N, 3, H, W], the same heads truly smiling; None if not available
    region: Tensor  # bool [N, H, W], pixels that a smile may change: the mouth before and after, dilated
    identities: list[int]  # person id of each picture
    masks: Tensor  # exact part masks of the photos  # uint8 [N, H, W]
    smiling_masks: Tensor | None  # exact part masks of the truly smiling heads  # uint8 [N, H, W]


def load_heads(data: Path) -> SmileHeads:
    """Load the test heads, neutral and truly smiling, and the exact region that a smile may change.

    If test_smiling.zip is empty there are no true smiles. In that case, or if it has no masks (photographs), the region
    is the dilated neutral mouth.

    Raises:
        UserError: the two archives have different heads, all heads are of one person, or a mouth class is missing.
    """
    classes = load_classes(data / "classes.json")
    if not set(MOUTH) <= set(classes.names):
        raise UserError(f"{data / 'classes.json'}: the smile benchmark needs the classes {', '.join(MOUTH)}")
    mouth = [classes.index(name) for name in MOUTH]
    before = torch.as_tensor(load_masks(data / "test.zip"))
    attributes = load_attributes(data / "test.zip")
    identities = [row["identity"] for row in attributes]
    if len(set(identities)) < 2:
        raise UserError(f"{data / 'test.zip'}: all pictures show one person; the benchmark needs at least two")
    photos = torch.as_tensor(load_images(data / "test.zip"))
    around = dilate(is_part(before, mouth), max(1, before.shape[-1] // ROOM))
    known = dict(photos=photos, identities=identities, masks=before)
    if count(data / "test_smiling.zip") == 0:
        return SmileHeads(smiling=None, region=around, smiling_masks=None, **known)
    if identities != [row["identity"] for row in load_attributes(data / "test_smiling.zip")]:
        raise UserError(f"{data}: test.zip and test_smiling.zip have different heads; run stage data again")
    smiling = torch.as_tensor(load_images(data / "test_smiling.zip"))
    if not holds_masks(data / "test_smiling.zip"):
        return SmileHeads(smiling=smiling, region=around, smiling_masks=None, **known)
    after = torch.as_tensor(load_masks(data / "test_smiling.zip"))
    return SmileHeads(smiling=smiling, region=edit_region(before, after, mouth), smiling_masks=after, **known)


@torch.no_grad()
def synthesise(G: nn.Module, w_plus: Tensor, *, batch: int, device: torch.device) -> Tensor:
    """Latents [N, num_ws, w_dim] -> pictures, uint8 [N, 3, H, W]."""
    parts = w_plus.split(batch)
    return torch.cat([to_uint8(G.synthesis(part.to(device), noise_mode="const")).cpu() for part in parts])


def refine_resumably(
    G: nn.Module,
    S: nn.Module,
    lpips_vgg: nn.Module,
    w_plus: Tensor,
    vector: EditingVector,
    *,
    scale: float,
    params: OptimizationParams,
    identity: nn.Module | None,
    batch: int,
    work: Path,
    device: torch.device,
) -> Tensor:
    """The refinement of EditGAN section 3.3 on all heads; finished batches are cached in `work`.

    Args:
        identity: face features for the identity term; None if its weight is 0
    Returns:
        refined latents [N, num_ws, w_dim]
    """
    refined = []
    for start in range(0, len(w_plus), batch):
        path = work / "refined" / f"{start:05d}_{batch}.safetensors"
        if path.exists():
            refined.append(load_tensors(path)[0]["w_plus"])
            continue
        result = refine(
            G,
            S,
            lpips_vgg,
            w_plus[start : start + batch].to(device),
            vector,
            scale,
            steps=params.steps,
            lr=params.lr,
            weights=params.weights,
            identity=identity,
            batch=batch,
        ).cpu()
        save_tensors(path, {"w_plus": result})
        refined.append(result)
    return torch.cat(refined)
