"""InterFaceGAN (Shen, Yang, Tang & Zhou, TPAMI 2020): an attribute is a hyperplane in W; edits move along its normal.

A classifier of the attribute scores sampled latents. A linear support vector machine separates the highest scores from
the lowest (section 3.1). Moving along the normal of its hyperplane changes the attribute (section 3.2). Conditional
directions project out the normals of other attributes (section 3.3).
"""

from dataclasses import dataclass

import torch
from sklearn.svm import SVC
from torch import Tensor

EXTREME = 0.02  # share of the latents at each end of the scores that the SVM uses (released code)
TRAINED = 0.7  # share of these for training; the rest is for validation (released code)


@dataclass(frozen=True)
class Boundary:
    """The hyperplane of one attribute."""

    normal: Tensor  # unit vector towards more of the attribute  # [w_dim]
    accuracy: float  # on held-out extreme latents
    accuracy_others: float  # on all other latents, labelled by whether their score is above the middle


def find_boundary(w: Tensor, scores: Tensor, *, generator: torch.Generator, extreme: float = EXTREME) -> Boundary:
    """Separate latents w [N, w_dim] by their scores [N]: top vs bottom `extreme` share; ValueError for too few."""
    count = round(extreme * len(w))
    if count < 4 or scores.max() <= scores.min():
        raise ValueError(
            f"{len(w)} latents with scores from {scores.min():g} to {scores.max():g}: cannot form two classes of >= 4"
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
    """The component of a normal [w_dim] that is orthogonal to all conditions [K, w_dim], normalised.

    For one condition: n - (n . c) c (section 3.3). For several: the projection onto their orthogonal complement.
    """
    basis, _ = torch.linalg.qr(conditions.double().T)  # [w_dim, K]
    rest = normal.double() - basis @ (basis.T @ normal.double())
    return (rest / rest.norm()).float()
