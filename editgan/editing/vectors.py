"""Editing vectors: a learned delta_w_plus with everything needed to apply, refine and explain it (EditGAN 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from editgan.errors import UserError
from editgan.weights import load_tensors, save_tensors

KIND = "editing_vector"


@dataclass(frozen=True)
class EditingVector:
    """What was learned from one edit of one image, or the mean of several.

    The vector is not normalised: scale 1 is what its heads learned on average, negative scales give the reverse edit.
    """

    name: str
    region_classes: tuple[str, ...]  # Q_edit: the parts that the edit is about
    source: str  # the images it was learned from, e.g. "val/00012, val/00033"
    delta_w_plus: Tensor  # [num_ws, w_dim]
    scale: float = 1.0  # strength at which to apply it unless another is asked for
    target: str = ""  # where the edited mask came from, e.g. "mouth of pool/00003"


def apply_vector(w_plus: Tensor, vector: EditingVector, scale: float | None = None) -> Tensor:
    """w_plus + scale * delta_w_plus, for latents [N, num_ws, w_dim]; edits compose by applying one after the other.

    Raises:
        UserError: the vector belongs to a generator of another shape.
    """
    delta = vector.delta_w_plus
    if w_plus.shape[1:] != delta.shape:
        raise UserError(
            f"editing vector {vector.name!r} is {list(delta.shape)}, the latents are {list(w_plus.shape[1:])}: "
            "it was learned with another generator; learn it again with this one"
        )
    return w_plus + (vector.scale if scale is None else scale) * delta.to(w_plus)


def combined(vectors: Sequence[EditingVector], scales: Sequence[float]) -> EditingVector:
    """Several edits as one: the sum of scale * delta_w_plus, about the parts of all of them, to be refined once.

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
    return save_tensors(
        path,
        {"delta_w_plus": vector.delta_w_plus.float()},
        {
            "kind": KIND,
            "name": vector.name,
            "region_classes": list(vector.region_classes),
            "source": vector.source,
            "scale": vector.scale,
            "target": vector.target,
        },
    )


def load_vector(path: str | Path) -> EditingVector:
    """Read what `save_vector` wrote.

    Raises:
        UserError: missing or damaged file, or no editing vector inside.
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != KIND or "delta_w_plus" not in tensors:
        raise UserError(
            f"{path}: holds no editing vector (kind {metadata.get('kind')!r}, expected {KIND!r}); name a file of "
            "outputs/editing/vectors"
        )
    return EditingVector(
        name=metadata["name"],
        region_classes=tuple(metadata["region_classes"]),
        source=metadata["source"],
        delta_w_plus=tensors["delta_w_plus"],
        scale=metadata["scale"],
        target=metadata["target"],
    )


def load_vectors(*folders: str | Path | None) -> dict[str, EditingVector]:
    """The vectors of folders by name, those of later folders over those of earlier ones; missing folders are empty."""
    paths = [path for folder in folders if folder is not None for path in sorted(Path(folder).glob("*.safetensors"))]
    return {path.stem: load_vector(path) for path in paths}
