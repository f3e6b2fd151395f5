"""The smile protocol (EditGAN, section 4.2): neutral test heads are edited to smile, then judged.

Rows: the input photo, its reconstruction, the edit of every method, the edit of EditGAN+ after refinement, and the same
head truly smiling, which is the upper bound. Photographs lack the last row and all metrics that need it. All rows are
quantised to 8 bits first, like pictures on disk.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.data.archive import count, holds_masks, load_attributes, load_classes, load_images, load_masks
from editgan.data.paste import dilate
from editgan.data.protocol import SMILE, Protocol, load_protocol
from editgan.editing.edits import fits
from editgan.editing.masks import edit_region, is_part
from editgan.editing.params import EditingParams
from editgan.editing.refine import refine
from editgan.editing.vectors import EditingVector
from editgan.errors import UserError
from editgan.generator.generator import TRUNCATION_PSI, Generator
from editgan.training import once

INPUT, RECONSTRUCTION, TRULY_SMILING = "input", "reconstruction", SMILE.truth
EDITGAN, PLUS = "editgan", "editgan_plus"  # the vector of one head, as in the paper; the mean of several heads (ours)
DISTILLATION, MASKGAN = "distillation", "maskgan"
FROM_PHOTOS = (DISTILLATION, MASKGAN)  # methods that edit the photo directly: no embedding, no strength
REST = ("smile = 0", "mouth_open = 0", "frown = 0", "blink < 0.5")  # rules that a neutral head satisfies
FRONTAL = ("yaw", "pitch", "roll")  # all 0 for a head seen from the front
ROOM = 16  # without true smiles, the smile region is the neutral mouth dilated by side / ROOM


def refined_name(steps: int) -> str:
    """Name of the row of EditGAN+ after refinement, e.g. `editgan_plus_30`."""
    return f"{PLUS}_{steps}"


def at_rest(attributes: dict, protocol: Protocol = SMILE) -> bool:
    """Whether a head's attributes are neutral: no smile, no frown, lips closed, eyes open.

    A picture of another class is at rest if it is without the attribute of its benchmark.
    """
    if protocol.faces:
        return all(fits(attributes, rule) for rule in REST)
    return protocol.without(attributes)


def has_attribute(attributes: dict, protocol: Protocol, smile_threshold: float) -> bool:
    """Whether a head smiles, or a picture of another class has the attribute of its benchmark."""
    return protocol.value(attributes) >= (smile_threshold if protocol.faces else protocol.high)


@dataclass(frozen=True)
class SmileHeads:
    """The heads of the benchmark; all fields have the same order."""

    photos: Tensor  # uint8 [N, 3, H, W], neutral
    masks: Tensor | None  # exact part masks of the photos, if available  # uint8 [N, H, W]
    identities: list[int]  # person id of each picture
    region: Tensor  # bool [N, H, W], pixels that a smile may change: the mouth before and after, dilated
    smiling: Tensor | None = None  # uint8 [N, 3, H, W], the same heads truly smiling, if available
    smiling_masks: Tensor | None = None  # exact part masks of the truly smiling heads  # uint8 [N, H, W]
    protocol: Protocol = SMILE
    places: tuple[int, ...] | None = None  # their indices in test.zip; None: all


def load_heads(data: Path) -> SmileHeads:
    """Load the test heads, neutral and truly smiling, and the exact region that a smile may change.

    Of other classes: the test pictures without the attribute of their benchmark, and the same with it.

    If test_smiling.zip is empty there are no true smiles. In that case, or if it has no masks (photographs), the region
    is the dilated neutral mouth. Without masks of the test pictures (another class) it is, on all of them, the union of
    these parts of the labelled pictures, dilated.
    """
    classes, test, test_smiling = load_classes(data / "classes.json"), data / "test.zip", data / "test_smiling.zip"
    protocol, rows = load_protocol(data), load_attributes(test)
    if not set(protocol.parts) <= set(classes.names):
        kind = "the smile benchmark" if protocol.faces else f"the benchmark of {protocol.attribute}"
        raise UserError(f"{data / 'classes.json'}: {kind} needs the classes {', '.join(protocol.parts)}")
    mouth = [classes.index(name) for name in protocol.parts]
    some = None if protocol.faces else [i for i, row in enumerate(rows) if at_rest(row, protocol)]
    rows = rows if some is None else [rows[index] for index in some]
    identities = [row["identity"] for row in rows]
    if len(set(identities)) < 2:
        if not protocol.faces:
            found = f"{len(rows)} pictures are without {protocol.attribute} (at most {protocol.low:g})"
            raise UserError(f"{test}: {found}; the benchmark needs at least two, of different things; raise data.test")
        raise UserError(f"{test}: all pictures show one person; the benchmark needs at least two")
    before = None
    if protocol.faces or holds_masks(test):
        before = torch.as_tensor(load_masks(test, some))
        around = is_part(before, mouth)
    else:
        around = is_part(torch.as_tensor(load_masks(data / "pool.zip")), mouth).any(0).expand(len(rows), -1, -1)
    around = dilate(around, max(1, around.shape[-1] // ROOM))
    places = None if some is None else tuple(some)
    photos = torch.as_tensor(load_images(test, some))
    heads = SmileHeads(photos, before, identities, around, protocol=protocol, places=places)
    if count(test_smiling) == 0:
        return heads
    truths = load_attributes(test_smiling)
    if identities != [row["identity"] for row in (truths if some is None else [truths[index] for index in some])]:
        raise UserError(f"{data}: test.zip and test_smiling.zip have different heads; run stage data again")
    heads = replace(heads, smiling=torch.as_tensor(load_images(test_smiling, some)))
    if before is None or not holds_masks(test_smiling):
        return heads
    after = torch.as_tensor(load_masks(test_smiling, some))
    return replace(heads, region=edit_region(before, after, mouth), smiling_masks=after)


def sample_latents(G: Generator, count: int, generator: torch.Generator, *, batch: int) -> Tensor:
    """Latents of random z, truncated as in the released code, on G's device.  # [N, num_ws, w_dim]"""
    z, device = torch.randn(count, G.z_dim, generator=generator), G.w_avg.device
    with torch.no_grad():
        return torch.cat([G.mapping(part.to(device), truncation_psi=TRUNCATION_PSI) for part in z.split(batch)])


def refine_resumably(
    G: nn.Module,
    S: nn.Module,
    lpips_vgg: nn.Module,
    w_plus: Tensor,
    vector: EditingVector,
    *,
    scale: float,
    params: EditingParams,
    identity: nn.Module | None,
    batch: int,
    work: Path,
    device: torch.device,
) -> Tensor:
    """The refinement of EditGAN section 3.3 on all heads [N, num_ws, w_dim]; finished batches are cached in `work`."""
    options = dict(
        steps=params.refine.steps, lr=params.refine.lr, weights=params.weights, identity=identity, batch=batch
    )
    refined = []
    for part in w_plus.split(batch):
        path = work / "refined" / f"{len(refined) * batch:05d}_{batch}.safetensors"
        refined.append(once(path, partial(refine, G, S, lpips_vgg, part.to(device), vector, scale, **options)))
    return torch.cat(refined)
