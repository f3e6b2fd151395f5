"""How far a network from picture to picture came in training, and whether it had come to rest."""

from torch import Tensor

from editgan.images import to_float

IMPROVED = 0.01  # a fall of the validation loss by at least this part counts as one
DIGITS = 6  # of what is written: fewer than rounding differences between runs reach


def still_improving(losses: list[float]) -> bool:
    """Does the mean of the last quarter of a curve lie at least 1 % below that of the quarter before?

    As the learning rate falls to 0 towards the end, a curve that has come to rest says that this budget has nothing
    left to give, not that a larger one had not. A curve of fewer than two values counts as improving.
    """
    quarter = max(1, len(losses) // 4)
    last, before = losses[-quarter:], losses[-2 * quarter : -quarter]
    if not before:
        return True
    return sum(last) / len(last) <= (1 - IMPROVED) * sum(before) / len(before)


def l1(first: Tensor, second: Tensor) -> float:
    """L1 between uint8 images [N, 3, H, W], in the units of [-1, 1]."""
    return round(float((to_float(first) - to_float(second)).abs().double().mean()), DIGITS)
