"""InterFaceGAN (Shen, Yang, Tang & Zhou, TPAMI 2020): an attribute is a hyperplane in W, an edit a step off it.

Latents are sampled and scored by a classifier of the attribute; a linear support vector machine separates those with
the highest scores from those with the lowest (section 3.1); moving along the normal of its hyperplane changes the
attribute (section 3.2), and what another attribute's normal has in common with it is projected out (section 3.3).
"""

from dataclasses import dataclass

import torch
from sklearn.svm import SVC
from torch import Tensor

EXTREME = 0.02  # share of the latents at either end of the scores that the machine learns from (released code)
TRAINED = 0.7  # of these; the rest validates (released code)
CONDITIONS = ("masculine", "age", "yaw")  # attributes that a conditional direction leaves alone


@dataclass(frozen=True)
class Boundary:
    """The hyperplane of one attribute."""

    normal: Tensor  # of length 1, towards more of the attribute  # [w_dim]
    accuracy: float  # on the extreme latents that it did not learn from
    accuracy_others: float  # on all that are not extreme, called by the side of the middle score that they lie on


def find_boundary(w: Tensor, scores: Tensor, *, generator: torch.Generator, extreme: float = EXTREME) -> Boundary:
    """Separate latents w [N, w_dim] by their scores [N]: the top against the bottom `extreme` share.

    Raises:
        ValueError: too few latents, or scores that are all the same.
    """
    count = round(extreme * len(w))
    if count < 4 or scores.max() <= scores.min():
        raise ValueError(
            f"{len(w)} latents with scores from {scores.min():g} to {scores.max():g} give no two classes of at least 4"
        )
    order = scores.argsort(descending=True)
    chosen = torch.cat([order[:count], order[-count:]])
    labels = torch.arange(2 * count) < count  # True: has the attribute
    shuffled = torch.randperm(2 * count, generator=generator)
    cut = round(TRAINED * 2 * count)
    learn, validate = shuffled[:cut], shuffled[cut:]
    machine = SVC(kernel="linear", C=1.0)
    machine.fit(w[chosen[learn]].double().numpy(), labels[learn].numpy())
    accuracy = machine.score(w[chosen[validate]].double().numpy(), labels[validate].numpy())
    others = order[count:-count]
    above = scores[others] > (scores[order[:count]].min() + scores[order[-count:]].max()) / 2
    accuracy_others = machine.score(w[others].double().numpy(), above.numpy()) if len(others) else 1.0
    normal = torch.tensor(machine.coef_[0])
    return Boundary((normal / normal.norm()).float(), float(accuracy), float(accuracy_others))


def conditional(normal: Tensor, conditions: Tensor) -> Tensor:
    """The part of a normal [w_dim] that lies in all hyperplanes of the conditions [K, w_dim], of length 1.

    For one condition n - (n . c) c (section 3.3); for several, the projection onto what is orthogonal to all of them.
    """
    basis, _ = torch.linalg.qr(conditions.double().T)  # [w_dim, K]
    rest = normal.double() - basis @ (basis.T @ normal.double())
    return (rest / rest.norm()).float()
