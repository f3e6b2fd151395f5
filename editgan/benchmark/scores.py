"""From pictures to the figures of a row: first what every network says about them, then the metrics."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from editgan.benchmark.smile import FROM_PHOTOS, INPUT, PASTED, RECONSTRUCTION, TRULY_SMILING, SmileHeads
from editgan.images import mean_squared_error, to_float
from editgan.judges import SMILE_JUDGES, Judges
from editgan.judges.quality import SMILE_THRESHOLD, cosines, measure
from editgan.metrics import (
    FeatureStatistics,
    bootstrap_interval,
    features_to_statistics,
    frechet_distance,
    kernel_distance,
    kernel_distance_spread,
    outside_error,
    reference_sums,
)


@dataclass(frozen=True)
class Yardsticks:
    """The networks of the table. A name is part of its columns' names, so that networks never share one."""

    judges: Judges
    identity: dict[str, nn.Module]  # name -> images -> [N, D], for cosines
    features: dict[str, nn.Module]  # name -> images -> [N, D], for FID and KID
    batch: int
    device: torch.device


@dataclass(frozen=True)
class Reference:
    """Features [M, D] of the reference heads by one network, and their statistics."""

    features: Tensor
    statistics: FeatureStatistics
    among: Tensor  # `reference_sums` of KID for rows of as many pictures as there are heads


@dataclass(frozen=True)
class Measured:
    """One row of pictures and what the networks say about each of them."""

    pictures: Tensor  # uint8 [N, 3, H, W]
    smile: Tensor  # [N, 3], in the order of SMILE_JUDGES
    identity: dict[str, Tensor]  # [N, D] by network
    features: dict[str, Tensor]  # [N, D] by network
    lpips_alex: Tensor | None  # [N], to the truly smiling heads, where these exist


@dataclass
class Scores:
    """Figures of one row. What cannot be said of a row is absent."""

    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # of those that are means over heads
    heads: dict[str, Tensor] = field(default_factory=dict)  # what these are means of: of each head  # float32 [N]

    def add(self, column: str, of_heads: Tensor, *, resamples: int, seed: int) -> None:
        """A column that is a mean over heads, [N], with its bootstrap interval."""
        self.values[column] = float(of_heads.double().mean())
        self.intervals[column] = bootstrap_interval(of_heads, resamples=resamples, seed=seed)
        self.heads[column] = of_heads.float()


def measure_reference(
    pictures: Tensor, yardsticks: Yardsticks, *, heads: int, kid_subsets: int, seed: int
) -> dict[str, Reference]:
    """The reference heads, uint8 [M, 3, H, W], seen by each feature network; rows of `heads` pictures come later."""
    references = {}
    for name, network in yardsticks.features.items():
        features = measure(network, pictures, device=yardsticks.device, batch=yardsticks.batch)
        among = reference_sums(features, heads, subsets=kid_subsets, seed=seed)
        references[name] = Reference(features=features, statistics=features_to_statistics(features), among=among)
    return references


def measure_row(pictures: Tensor, smiling: Tensor | None, yardsticks: Yardsticks) -> Measured:
    """Show pictures, uint8 [N, 3, H, W], and the same heads truly smiling, where these exist, to every network."""

    def seen_by(function) -> Tensor:
        return measure(function, pictures, device=yardsticks.device, batch=yardsticks.batch)

    lpips_alex = None
    if smiling is not None:
        lpips_alex = _lpips(yardsticks.judges.lpips, to_float(pictures), to_float(smiling), yardsticks)
    return Measured(
        pictures=pictures,
        smile=seen_by(yardsticks.judges.smile_probabilities),
        identity={name: seen_by(network) for name, network in yardsticks.identity.items()},
        features={name: seen_by(network) for name, network in yardsticks.features.items()},
        lpips_alex=lpips_alex,
    )


def score_row(
    name: str,
    rows: dict[str, Measured],
    heads: SmileHeads,
    references: dict[str, Reference],
    *,
    kid_subsets: int,
    bootstrap: int,
    seed: int,
) -> Scores:
    """All figures of row `name`; what a row is decides which figures make sense for it.

    Returns:
        smiling_* in percent; identity_* as cosines to the photo, identity_to_reconstruction_* to the reconstruction,
        identity_relative_* with different people at 0 and the photo at 1; lpips_alex and l2 to the truly smiling head;
        leak_to_* as mean squared error outside the region; fidN_* and kidN_* against the reference heads.
        Squared errors are of images in [-1, 1].
    """
    row, photo, reconstruction = rows[name], rows[INPUT], rows[RECONSTRUCTION]
    x = to_float(row.pictures)
    edited = name not in (INPUT, RECONSTRUCTION, TRULY_SMILING, *FROM_PHOTOS) and not name.endswith(PASTED)
    per_head: dict[str, Tensor] = {}
    for column, judge in enumerate(SMILE_JUDGES):
        per_head[f"smiling_{judge}"] = 100.0 * (row.smile[:, column] >= SMILE_THRESHOLD).double()
    for network, features in row.identity.items():
        if name != INPUT:
            per_head[f"identity_{network}"] = cosines(features, photo.identity[network]).diagonal()
        if edited:
            to_reconstruction = cosines(features, reconstruction.identity[network]).diagonal()
            per_head[f"identity_to_reconstruction_{network}"] = to_reconstruction
    if name != TRULY_SMILING and heads.smiling is not None:
        per_head["lpips_alex"] = row.lpips_alex
        per_head["l2"] = mean_squared_error(x, to_float(heads.smiling))
    if name != INPUT:
        per_head["leak_to_input"] = outside_error(x, to_float(heads.photos), heads.region)
    if edited:
        per_head["leak_to_reconstruction"] = outside_error(x, to_float(reconstruction.pictures), heads.region)

    scores = Scores()
    for column, values in per_head.items():
        scores.add(column, values, resamples=bootstrap, seed=seed)
    for network in row.identity if name != INPUT else ():
        stranger = different_people_cosine(photo.identity[network], heads.identities)
        cosine = scores.values[f"identity_{network}"]
        scores.values[f"identity_relative_{network}"] = (cosine - stranger) / (1 - stranger)
    for network, features in row.features.items():
        reference, count = references[network], len(features)
        statistics = features_to_statistics(features)
        scores.values[f"fid{count}_{network}"] = frechet_distance(statistics, reference.statistics)
        kid = kernel_distance(features, reference.features, subsets=kid_subsets, seed=seed, among=reference.among)
        spread = kernel_distance_spread(features, reference.features, resamples=bootstrap, seed=seed)
        scores.values[f"kid{count}_{network}"] = kid
        scores.intervals[f"kid{count}_{network}"] = (kid + spread[0], kid + spread[1])
    return scores


def score_embedding(photos: Tensor, reconstructions: dict[str, Tensor], yardsticks: Yardsticks) -> dict[str, dict]:
    """How near reconstructions come to their photos, uint8 [N, 3, H, W] both: means over the N heads.

    Returns:
        for each set of reconstructions lpips_alex, l2 (mean squared error of images in [-1, 1]), identity_* (cosine).
    """

    def seen_by(network: nn.Module, pictures: Tensor) -> Tensor:
        return measure(network, pictures, device=yardsticks.device, batch=yardsticks.batch)

    x, figures = to_float(photos), {}
    faces = {name: seen_by(network, photos) for name, network in yardsticks.identity.items()}
    for rung, pictures in reconstructions.items():
        y = to_float(pictures)
        figures[rung] = {
            "lpips_alex": float(_lpips(yardsticks.judges.lpips, y, x, yardsticks).double().mean()),
            "l2": float(mean_squared_error(y, x).double().mean()),
        }
        for name, network in yardsticks.identity.items():
            same = cosines(seen_by(network, pictures), faces[name]).diagonal()
            figures[rung][f"identity_{name}"] = float(same.mean())
    return figures


def different_people_cosine(features: Tensor, identities: list[int]) -> float:
    """Mean cosine between pictures of different people, features [N, D]: where "another person" lies."""
    people = torch.tensor(identities)
    different = people[:, None] != people[None, :]  # [N, N]
    return float(cosines(features, features)[different].mean())


@torch.no_grad()
def _lpips(network: nn.Module, first: Tensor, second: Tensor, yardsticks: Yardsticks) -> Tensor:
    pairs = zip(first.split(yardsticks.batch), second.split(yardsticks.batch), strict=True)
    device = yardsticks.device
    return torch.cat([network(a.to(device), b.to(device)).flatten().cpu() for a, b in pairs])  # [N]
