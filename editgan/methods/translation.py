"""Training diagnostics of image-to-image networks: convergence of the validation loss, and L1."""

from torch import Tensor

from editgan.images import to_float

IMPROVED = 0.01  # smallest relative decrease of the validation loss that counts as an improvement
DIGITS = 6  # digits written; coarser than rounding differences between runs


def still_improving(losses: list[float]) -> bool:
    """Whether the mean of the last quarter of a loss curve is at least 1 % below that of the quarter before.

    The learning rate decays to 0, so a flat curve means that this training budget is used up, not that a longer
    training would not help. A curve with fewer than two values counts as improving.
    """
    quarter = max(1, len(losses) // 4)
    last, before = losses[-quarter:], losses[-2 * quarter : -quarter]
    if not before:
        return True
    return sum(last) / len(last) <= (1 - IMPROVED) * sum(before) / len(before)


def l1(first: Tensor, second: Tensor) -> float:
    """Mean L1 between uint8 images [N, 3, H, W], on the [-1, 1] scale."""
    return round(float((to_float(first) - to_float(second)).abs().double().mean()), DIGITS)
