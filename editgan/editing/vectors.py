"""Editing vectors: a learned delta_w_plus with the metadata to apply, refine and explain it (EditGAN 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from editgan.errors import UserError
from editgan.weights import load_tensors, save_tensors

KIND = "editing_vector"
MEAN = "_mean"  # suffix of the vector that is the mean over the heads an edit was learned on


@dataclass(frozen=True)
class EditingVector:
    """The latent offset learned from one edited image, or the mean over several images.

    The vector is not normalised: scale 1 is the mean learned offset, negative scales reverse the edit.
    """

    name: str
    region_classes: tuple[str, ...]  # Q_edit: the parts that the edit changes
    source: str  # the images it was learned from, e.g. "val/00012, val/00033"
    delta_w_plus: Tensor  # [num_ws, w_dim]
    scale: float = 1.0  # default strength
    target: str = ""  # source of the edited mask, e.g. "mouth of pool/00003"
    generator: str = ""  # sha256 of its generator's file, for vectors that are not made by a stage
    file: str = ""  # that it was read from


def apply_vector(w_plus: Tensor, vector: EditingVector, scale: float | None = None) -> Tensor:
    """w_plus + scale * delta_w_plus, for latents [N, num_ws, w_dim]. Edits compose by addition.

    Raises:
        UserError: the vector belongs to a generator with latents of another shape.
    """
    delta = vector.delta_w_plus
    if w_plus.shape[1:] != delta.shape:
        raise UserError(
            f"editing vector {vector.name!r} has shape {list(delta.shape)}, the latents {list(w_plus.shape[1:])}: "
            "it was learned with another generator; learn it again with this one"
        )
    return w_plus + (vector.scale if scale is None else scale) * delta.to(w_plus)


def combined(vectors: Sequence[EditingVector], scales: Sequence[float]) -> EditingVector:
    """Combine edits into one vector: the sum of scale * delta_w_plus and the union of the parts.

    Raises:
        UserError: vectors of different generators.
    """
    total = torch.zeros_like(vectors[0].delta_w_plus)
    for vector, scale in zip(vectors, scales, strict=True):
        total = apply_vector(total[None], vector, scale)[0]
    parts = dict.fromkeys(part for vector in vectors for part in vector.region_classes)
    return EditingVector(
        name=" + ".join(f"{scale:g} {vector.name}" for vector, scale in zip(vectors, scales, strict=True)),
        region_classes=tuple(parts),
        source=", ".join(vector.source for vector in vectors),
        delta_w_plus=total,
    )


def save_vector(path: str | Path, vector: EditingVector) -> Path:
    """Write NAME.safetensors; equal vectors give equal bytes."""
    metadata = {
        "kind": KIND,
        "name": vector.name,
        "region_classes": list(vector.region_classes),
        "source": vector.source,
        "scale": vector.scale,
        "target": vector.target,
    }
    metadata |= {"generator": vector.generator} if vector.generator else {}
    return save_tensors(path, {"delta_w_plus": vector.delta_w_plus.float()}, metadata)


def load_vector(path: str | Path) -> EditingVector:
    """Read what `save_vector` wrote.

    Raises:
        UserError: missing or damaged file, or a file without an editing vector.
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != KIND or "delta_w_plus" not in tensors:
        raise UserError(
            f"{path}: not an editing vector (kind {metadata.get('kind')!r}, expected {KIND!r}); give a file from "
            "outputs/editing/vectors"
        )
    return EditingVector(
        name=metadata["name"],
        region_classes=tuple(metadata["region_classes"]),
        source=metadata["source"],
        delta_w_plus=tensors["delta_w_plus"],
        scale=metadata["scale"],
        target=metadata["target"],
        generator=metadata.get("generator", ""),
        file=str(path),
    )


def load_vectors(*folders: str | Path | None) -> dict[str, EditingVector]:
    """Load the vectors of several folders by name. Later folders override earlier ones; missing folders are ignored."""
    paths = [path for folder in folders if folder is not None for path in sorted(Path(folder).glob("*.safetensors"))]
    return {path.stem: load_vector(path) for path in paths}
