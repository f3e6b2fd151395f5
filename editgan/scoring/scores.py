"""From pictures to metrics in two steps: outputs of every judge for each picture, then the metrics of a row."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.data.protocol import Protocol
from editgan.errors import UserError
from editgan.images import mean_squared_error, to_float
from editgan.judges.load import Judges
from editgan.judges.quality import SMILE_THRESHOLD, cosines, measure
from editgan.methods.smile import FROM_PHOTOS, INPUT, RECONSTRUCTION, SmileHeads
from editgan.metrics import (
    RESAMPLES,
    Reference,
    bootstrap_interval,
    kernel_distance_spread,
    outside_error,
)
from editgan.scoring.table import Column, Figure, Row
from editgan.training import in_batches
from editgan.weights import load_tensors, save_halves, save_tensors

WHOLE = ("smiling", "changed")  # the metrics whose values per head are 0 or 100
GREY = 128  # value of hidden pixels
Heads = dict[tuple[Row, Column], Tensor]  # the values that a metric averages, one per head  # [N]


@dataclass(frozen=True)
class Measured:
    """A set of pictures and the outputs of the judges for each of them."""

    pictures: Tensor  # uint8 [N, 3, H, W]
    smile: Tensor  # what each judge of success says, in the order of `judges`  # [N, J]
    judges: tuple[str, ...]
    identity: dict[str, Tensor]  # [N, D] by network
    features: dict[str, Tensor]  # [N, D] by network
    lpips_alex: Tensor | None  # [N], to the truly smiling heads, if these exist


@dataclass
class Scores:
    """Metrics of one row. Metrics that do not apply to the row are absent."""

    figures: dict[Column, Figure] = field(default_factory=dict)
    heads: dict[Column, Tensor] = field(default_factory=dict)  # values of means over heads  # float32 [N]

    def add(self, column: Column, of_heads: Tensor, *, seed: int) -> None:
        """Add a column that is a mean over heads, [N], with its bootstrap interval."""
        interval = bootstrap_interval(of_heads, resamples=RESAMPLES, seed=seed)
        self.figures[column] = Figure(len(of_heads), float(of_heads.double().mean()), *interval)
        self.heads[column] = of_heads.float()

    def values(self) -> dict[Column, float]:
        return {column: figure.value for column, figure in self.figures.items()}


def measure_row(
    pictures: Tensor,
    smiling: Tensor | None,
    judges: Judges,
    *,
    batch: int,
    device: torch.device,
    hidden: Tensor | None = None,
) -> Measured:
    """Apply every judge to pictures, uint8 [N, 3, H, W], and to the same heads truly smiling, if these exist.

    hidden: pixels that the identity networks see in grey, bool [N, H, W]; None: none
    """

    def seen_by(function, images: Tensor = pictures) -> Tensor:
        return measure(function, images, device=device, batch=batch)

    rest = pictures if hidden is None else pictures.masked_fill(hidden[:, None], GREY)
    lpips = None
    if smiling is not None:
        lpips = in_batches(judges.lpips, to_float(pictures), to_float(smiling), batch=batch, device=device)
    return Measured(
        pictures=pictures,
        smile=seen_by(judges.smile_probabilities),
        judges=tuple(judges.smile),
        identity={name: seen_by(network, rest) for name, network in judges.identity.items()},
        features={name: seen_by(network) for name, network in judges.features.items()},
        lpips_alex=lpips,
    )


def score_row(
    row: Row,
    measured: Measured,
    *,
    photo: Measured,
    reconstruction: Measured,
    heads: SmileHeads,
    references: dict[str, Reference],
    seed: int,
) -> Scores:
    """All metrics of a row; the kind of row determines which apply.

    Args:
        photo, reconstruction: the unedited heads, and their reconstructions
        references: reference statistics by feature network
    Returns:
        smiling in percent; identity as cosine to the photo, identity_to_reconstruction as cosine to the reconstruction,
        identity_relative with different people at 0 and the photo at 1 (of other classes these are changed and
        similarity, outside the region); lpips and l2 to the truly smiling head; leak_to_input and
        leak_to_reconstruction as mean squared error outside the region; fid and kid against the reference pictures.
        Squared errors are of images in [-1, 1].
    """
    x, protocol = to_float(measured.pictures), heads.protocol
    edited = row.method not in (INPUT, RECONSTRUCTION, protocol.truth, *FROM_PHOTOS) and not row.pasted
    of_heads: dict[Column, Tensor] = {}
    for judge, said in successes(measured, photo, protocol).items():
        of_heads[Column(protocol.success, judge)] = 100.0 * said.double()
    for network, features in measured.identity.items():
        if row.method != INPUT:
            of_heads[Column(protocol.kept, network)] = cosines(features, photo.identity[network]).diagonal()
        if edited:
            to_reconstruction = cosines(features, reconstruction.identity[network]).diagonal()
            of_heads[Column(f"{protocol.kept}_to_reconstruction", network)] = to_reconstruction
    if row.method != protocol.truth and heads.smiling is not None:
        of_heads[Column("lpips", "alex")] = measured.lpips_alex
        of_heads[Column("l2")] = mean_squared_error(x, to_float(heads.smiling))
    if row.method != INPUT:
        of_heads[Column("leak_to_input")] = outside_error(x, to_float(heads.photos), heads.region)
    if edited:
        leak = outside_error(x, to_float(reconstruction.pictures), heads.region)
        of_heads[Column("leak_to_reconstruction")] = leak

    scores, count = Scores(), len(x)
    for column, values in of_heads.items():
        scores.add(column, values, seed=seed)
    for network in measured.identity if row.method != INPUT else ():
        stranger = different_people_cosine(photo.identity[network], heads.identities)
        cosine = scores.figures[Column(protocol.kept, network)].value
        relative = (cosine - stranger) / (1 - stranger)
        scores.figures[Column(f"{protocol.kept}_relative", network)] = Figure(count, relative)
    for network, features in measured.features.items():
        reference = references[network]
        scores.figures[Column("fid", network)] = Figure(count, reference.fid(features))
        kid = reference.kid(features, seed=seed)
        low, high = kernel_distance_spread(features, reference.features, resamples=RESAMPLES, seed=seed)
        scores.figures[Column("kid", network)] = Figure(count, kid, kid + low, kid + high)
    return scores


def successes(measured: Measured, photo: Measured, protocol: Protocol) -> dict[str, Tensor]:
    """Which pictures show the attribute, by judge.  # bool [N]

    By a classifier: with a probability of at least one half. By the parser: the parts cover at least `growth` times as
    many pixels as in the unedited picture.
    """
    found = {}
    for index, judge in enumerate(measured.judges):
        said = measured.smile[:, index]
        if judge == "parser":
            before = photo.smile[:, index]
            found[judge] = (said >= protocol.growth * before) & (said > before)
        else:
            found[judge] = said >= SMILE_THRESHOLD
    return found


def score_embedding(
    photos: Tensor,
    reconstructions: dict[str, Tensor],
    judges: Judges,
    *,
    batch: int,
    device: torch.device,
    kept: str = "embedding_identity",
) -> dict[Row, dict[Column, Figure]]:
    """Compare reconstructions with their photos, uint8 [N, 3, H, W] both: means over the N heads.

    Returns:
        for each set of reconstructions embedding_lpips, embedding_l2 (mean squared error of images in [-1, 1]) and
        embedding_identity (cosine).
    """

    def seen_by(network: nn.Module, pictures: Tensor) -> Tensor:
        return measure(network, pictures, device=device, batch=batch)

    count, table = len(photos), {}
    faces = {name: seen_by(network, photos) for name, network in judges.identity.items()}
    for method, pictures in reconstructions.items():
        x, y = to_float(pictures), to_float(photos)
        lpips, l2 = in_batches(judges.lpips, x, y, batch=batch, device=device), mean_squared_error(x, y)
        figures = {
            Column("embedding_lpips", "alex"): Figure(count, float(lpips.double().mean())),
            Column("embedding_l2"): Figure(count, float(l2.double().mean())),
        }
        for name, network in judges.identity.items():
            same = cosines(seen_by(network, pictures), faces[name]).diagonal()
            figures[Column(kept, name)] = Figure(count, float(same.mean()))
        table[Row(method)] = figures
    return table


def different_people_cosine(features: Tensor, identities: list[int]) -> float:
    """Mean cosine between pictures of different people, features [N, D]: the level of unrelated faces."""
    people = torch.tensor(identities)
    different = people[:, None] != people[None, :]  # [N, N]
    return float(cosines(features, features)[different].mean())


def save_heads(path: Path, heads: Heads, about: dict, *, half: bool = False) -> None:
    """Write the values that each metric averages, one per head.

    Args:
        about: metadata that is stored too and returned by `load_heads`
        half: round to float16, and store `WHOLE` as bytes
    """
    keys = sorted(heads, key=lambda key: key[1].metric not in WHOLE) if half else list(heads)
    index = [[*row, *column] for row, column in keys]
    values = torch.stack([heads[key] for key in keys])  # [F, N]
    if not half:
        save_tensors(path, {"values": values}, {"index": index, "about": about})
        return
    whole = sum(column.metric in WHOLE for _, column in keys)
    parts = {"whole": values[:whole].to(torch.uint8), "values": values[whole:]}
    save_halves(path, parts, {"index": index, "about": about}, remedy="run the stage again")


def load_heads(path: Path) -> tuple[Heads, dict]:
    """Read what `save_heads` wrote: (values per head as float32, metadata).

    Raises:
        UserError: the file is missing, damaged, or of another layout.
    """
    tensors, metadata = load_tensors(path)
    try:
        keys = [
            (Row(method, strength, pasted), Column(metric, network))
            for method, strength, pasted, metric, network in metadata["index"]
        ]
        parts = [tensors[name].float() for name in ("whole", "values") if name in tensors]
        return dict(zip(keys, torch.cat(parts), strict=True)), metadata["about"]
    except (KeyError, ValueError, TypeError):
        raise UserError(f"{path}: contains no values per head; run the stage that writes it again") from None
