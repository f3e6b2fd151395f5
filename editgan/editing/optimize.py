"""Optimisation of latents towards edited masks, batched over images."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from editgan.editing.objective import EditLoss, EditObjective
from editgan.editing.params import DEFAULT_WEIGHTS, ObjectiveWeights
from editgan.errors import UserError
from editgan.segmentation.ensemble import SegmentationEnsemble

# (step, steps, losses, latents [N, num_ws, w_dim]); returning True ends the optimisation, and the best so far is kept
Report = Callable[[int, int, EditLoss, Tensor], bool | None]


@dataclass(frozen=True)
class Optimized:
    """Result of an optimisation."""

    w_plus: Tensor  # the iterate with the lowest total loss, chosen per image  # [N, num_ws, w_dim]
    start: EditLoss  # losses at the start, detached
    best: EditLoss  # losses at `w_plus`, detached


def optimize(
    objective: Callable[[Tensor], EditLoss],
    w_start: Tensor,
    *,
    steps: int = 100,
    lr: float = 0.02,
    report: Report | None = None,
) -> Optimized:
    """Run Adam at a constant rate on all rows of w_plus and keep the best of the steps + 1 iterates (released code).

    The loss is summed over the batch and Adam works elementwise, so the result of an image does not depend on the
    batch. Each image keeps its own best iterate.

    Args:
        objective: an `EditObjective` for the batch
        w_start: initial latents  # [N, num_ws, w_dim]
        steps: Adam updates
        report: called after each evaluation; it may end the optimisation (`Report`)

    Raises:
        UserError: the initial loss is not finite.
    """
    w_plus = w_start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([w_plus], lr=lr)
    best_w_plus, start, best = w_plus.detach().clone(), None, None
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            loss = objective(w_plus)
        now = detached(loss)
        if best is None:
            if not now.total.isfinite().all():
                raise UserError(
                    f"the initial loss of an edit is {now.total.tolist()}: its latents or networks are damaged; run "
                    "the stages encoder and segmentation again"
                )
            start = best = now
        else:
            better = now.total < best.total  # [N]; never true for NaN
            best = choose(better, now, best)
            best_w_plus = torch.where(better[:, None, None], w_plus.detach(), best_w_plus)
        if report is not None and report(step, steps, now, w_plus.detach()):
            break
        if step < steps:
            (w_plus.grad,) = torch.autograd.grad(loss.total.sum(), w_plus)
            optimizer.step()
    return Optimized(w_plus=best_w_plus, start=start, best=best)


def edit(
    G: nn.Module,
    S: SegmentationEnsemble,
    lpips: nn.Module,
    w_plus: Tensor,
    target_masks: Tensor,
    region: Tensor,
    *,
    weights: ObjectiveWeights = DEFAULT_WEIGHTS,
    steps: int = 100,
    lr: float = 0.05,
    identity: nn.Module | None = None,
    report: Report | None = None,
) -> Optimized:
    """Edit images by their masks: optimise W+, starting at each image's latent, towards its edited mask.

    Args:
        w_plus: latents of the images  # [N, num_ws, w_dim]
        target_masks: edited masks, labels  # [N, H, W]
        region: where the edited masks apply (`masks.edit_region`)  # bool [N, H, W]
        identity: face features for the identity term; required if weights.identity > 0
    """
    with torch.no_grad():
        images = G.synthesis(w_plus, noise_mode="const")  # the paper's x: G's reconstruction
    objective = EditObjective(
        generator=G,
        segmentation=S,
        lpips=lpips,
        weights=weights,
        images=images,
        masks=target_masks,
        region=region,
        identity=identity,
    )
    return optimize(objective, w_plus, steps=steps, lr=lr, report=report)


def edit_in_batches(
    G: nn.Module,
    S: SegmentationEnsemble,
    lpips: nn.Module,
    w_plus: Tensor,
    target_masks: Tensor,
    region: Tensor,
    *,
    batch: int,
    steps: int,
    progress: Callable[[int, int], None] | None = None,
    preview: Callable[[int, int, Tensor], bool | None] | None = None,
    **options,
) -> Tensor:
    """Run `edit` on `batch` images at a time, which affects memory and speed only.  # w_plus [N, num_ws, w_dim]

    Args:
        progress: called with (steps done, total steps), both counted over all batches
        preview: called after each evaluation with (step, steps, latents of the batch); returning True ends the batch
    """
    starts, parts = range(0, len(w_plus), batch), []
    for start in starts:

        def report(step: int, total: int, loss: EditLoss, latents: Tensor, done: int = len(parts) * steps) -> bool:
            if progress is not None:
                progress(done + step, len(starts) * total)
            return preview is not None and bool(preview(step, total, latents))

        images = slice(start, start + batch)
        found = edit(
            G, S, lpips, w_plus[images], target_masks[images], region[images], steps=steps, report=report, **options
        )
        parts.append(found.w_plus)
    return torch.cat(parts)


def detached(loss: EditLoss) -> EditLoss:
    """The losses detached from the autograd graph."""
    return EditLoss(**{field.name: getattr(loss, field.name).detach() for field in fields(EditLoss)})


def choose(where: Tensor, first: EditLoss, second: EditLoss) -> EditLoss:
    """Per image, the losses of `first` where `where` (bool [N]) is True, else those of `second`."""
    return EditLoss(
        **{f.name: torch.where(where, getattr(first, f.name), getattr(second, f.name)) for f in fields(EditLoss)}
    )
