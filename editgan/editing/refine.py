"""Self-supervised refinement of an applied editing vector (EditGAN, section 3.3): undo changes outside the region."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from editgan.editing.masks import edit_region
from editgan.editing.objective import EditObjective
from editgan.editing.optimize import optimize
from editgan.editing.params import DEFAULT_WEIGHTS, ObjectiveWeights
from editgan.editing.vectors import EditingVector, apply_vector
from editgan.segmentation.ensemble import SegmentationEnsemble

BATCH = 16  # images at a time


def refine(
    G: nn.Module,
    S: SegmentationEnsemble,
    lpips: nn.Module,
    w_plus: Tensor,
    vector: EditingVector,
    scale: float | None = None,
    *,
    steps: int = 30,
    lr: float = 0.02,
    weights: ObjectiveWeights = DEFAULT_WEIGHTS,
    identity: nn.Module | None = None,
    batch: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Apply a vector and refine the result: `refine_edit` with the region classes stored in the vector.

    Args:
        w_plus: latents of the unedited images  # [N, num_ws, w_dim]
        scale: strength; None: the vector's default
        progress: called after each batch with (images done, total images)
    Returns:
        refined latents  # [N, num_ws, w_dim]
    """
    return refine_edit(
        G,
        S,
        lpips,
        w_plus,
        apply_vector(w_plus, vector, scale),
        S.class_ids(vector.region_classes),
        steps=steps,
        lr=lr,
        weights=weights,
        identity=identity,
        batch=batch,
        progress=progress,
    )


def refine_edit(
    G: nn.Module,
    S: SegmentationEnsemble,
    lpips: nn.Module,
    w_plus: Tensor,
    w_edited: Tensor,
    class_ids: Sequence[int],
    *,
    steps: int = 30,
    lr: float = 0.02,
    weights: ObjectiveWeights = DEFAULT_WEIGHTS,
    identity: nn.Module | None = None,
    batch: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
    preview: Callable[[int, int, Tensor], bool | None] | None = None,
) -> Tensor:
    """Refine an edit of W+ made by one or several vectors.

    The target is S's segmentation of the edited image. The region covers the edited parts before and after the edit.
    Outside the region the image is pulled back to the unedited one.

    Args:
        w_plus, w_edited: latents before and after the edit  # [N, num_ws, w_dim]
        class_ids: labels of the edited parts (Q_edit)
        progress: called after each batch with (images done, total images)
        preview: called after each evaluation with (step, steps, latents of the batch); returning True ends the batch
    Returns:
        refined latents; each image is independent of its batch  # [N, num_ws, w_dim]
    """
    refined = []
    report = None if preview is None else lambda step, total, loss, latents: preview(step, total, latents)
    for before, after in zip(w_plus.split(batch), w_edited.split(batch), strict=True):
        objective = refinement_objective(G, S, lpips, before, after, class_ids, weights=weights, identity=identity)
        refined.append(optimize(objective, after, steps=steps, lr=lr, report=report).w_plus)
        if progress is not None:
            progress(sum(map(len, refined)), len(w_plus))
    return torch.cat(refined)


@torch.no_grad()
def refinement_objective(
    G: nn.Module,
    S: SegmentationEnsemble,
    lpips: nn.Module,
    w_plus: Tensor,
    w_edited: Tensor,
    class_ids: Sequence[int],
    *,
    weights: ObjectiveWeights = DEFAULT_WEIGHTS,
    identity: nn.Module | None = None,
) -> EditObjective:
    """The objective of refinement: the masks of `w_edited` inside the region, the images of `w_plus` outside."""
    images, features = G.synthesis_features(w_plus, noise_mode="const")
    masks = S.predict(features, images.shape[-1])  # [N, H, W]
    _, features = G.synthesis_features(w_edited, noise_mode="const")
    targets = S.predict(features, images.shape[-1])  # [N, H, W]
    return EditObjective(
        generator=G,
        segmentation=S,
        lpips=lpips,
        weights=weights,
        images=images,
        masks=targets,
        region=edit_region(masks, targets, class_ids),
        identity=identity,
    )
