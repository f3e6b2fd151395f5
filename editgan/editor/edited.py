"""Results of edits, what they changed, and how to watch them come."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TOOK = 0.8  # share of the repainted pixels below which the picture often lacks what S reads in its features
FAILED = 0.5  # share of repainted pixels below which it failed; between the two, it succeeded in part
LEAST_CHANGE = 2.0  # grey levels within the region; a smaller change is not visible
Progress = Callable[[int, int], None]  # (done, total)
# (step, steps, latents [N, num_ws, w_dim] of the current batch) of an optimisation; `Editor.render` shows them.
# Returning True stops it: the best latents so far are the result.
Preview = Callable[[int, int, Tensor], bool | None]


@dataclass(frozen=True)
class Edited:
    """The result of an edit of the images that were set."""

    images: Tensor  # uint8 [N, 3, H, W]
    masks: Tensor  # predicted part labels of the edited images  # uint8 [N, H, W]
    start: Tensor  # latents before the edit  # [N, num_ws, w_dim]
    w_plus: Tensor  # latents after the edit  # [N, num_ws, w_dim]
    region: Tensor  # requested region and edited parts before and after the edit, dilated  # bool [N, H, W]
    parts: tuple[tuple[str, ...], ...]  # Q_edit: the edited parts of each image


@dataclass(frozen=True)
class Outcome:
    """What an edit made of one image."""

    inside: float  # mean absolute change of the picture within the region, in grey levels (0..255)
    outside: float  # the same outside the region
    followed: float | None  # share of the repainted pixels that are segmented as painted; None: nothing was painted
    parts: tuple[str, ...]

    @property
    def took(self) -> bool:
        """Whether the edit succeeded: enough repainted pixels are segmented as painted, and the picture changed."""
        return self.followed is None or (self.followed >= TOOK and self.inside >= LEAST_CHANGE)

    @property
    def fault(self) -> str:
        """Why the edit failed, or what it lacks; empty if it succeeded."""
        if self.took:
            return ""
        if self.inside < LEAST_CHANGE:
            return f"the edit failed: less than {LEAST_CHANGE:g} grey levels are hardly visible"
        if self.followed < FAILED:
            return "the edit failed: the generator can hardly render what is painted"
        return "the edit succeeded in part: the generator cannot render all that is painted"

    @property
    def facts(self) -> str:
        """What was measured."""
        if self.followed is None:
            return "the mask was not changed"
        said = f"{self.followed:.0%} of the repainted pixels are segmented as painted; parts {', '.join(self.parts)}"
        return f"{said}; change {self.inside:.1f} grey levels inside the region, {self.outside:.1f} outside"

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.facts, self.fault)))


def outcomes(edited: Edited, start: tuple[Tensor, Tensor], wanted: Tensor | None) -> list[Outcome]:
    """The outcome for each image.

    Args:
        start: images and predicted masks before the edit
        wanted: edited masks  # [N, H, W]; None: no mask was painted
    """
    found, (images, before) = [], start
    wanted = before if wanted is None else torch.as_tensor(wanted).cpu().reshape(before.shape)
    change = (edited.images.cpu().float() - images.cpu().float()).abs().mean(1)  # [N, H, W]
    for index, parts in enumerate(edited.parts):
        region, repainted = edited.region[index], before[index] != wanted[index]
        inside, outside = (float(change[index][where].mean()) if where.any() else 0.0 for where in (region, ~region))
        reached = (edited.masks[index] == wanted[index])[repainted]
        found.append(Outcome(inside, outside, float(reached.float().mean()) if len(reached) else None, parts))
    return found
