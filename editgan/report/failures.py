"""The known failures, in sentences that are derived from the results."""

from collections.abc import Mapping, Sequence
from typing import Any

from editgan.benchmark.tables import Areas
from editgan.benchmark.titles import (
    SMILING,
    TRUTHS,
    cell,
    judges_of,
    ranked_by,
    title_of,
    word,
)
from editgan.benchmark.verdict import LEAK
from editgan.methods.registry import INTERFACEGAN
from editgan.methods.smile import EDITGAN, INPUT, MASKGAN, PLUS, RECONSTRUCTION
from editgan.metrics import percentile_interval
from editgan.scoring.table import Column, Figure, Row, Table, of_method, only

KID = Column("kid", "efflite0")
DISAGREEMENT = 10.0  # points between smile networks
WEAK = 0.5  # share of the requested change below which a vector counts as weak
LISTED = 3  # vectors listed with their leak
Figures = dict[str, dict[Column, Figure]]  # by method, as generated


def figures_of(results: Table) -> Figures:
    """The figures of each method as generated, from the rows with and without a strength."""
    names = dict.fromkeys(row.method for row in only(results, pasted=False))
    return {
        name: {column: one for of in of_method(results, name).values() for column, one in of.items()} for name in names
    }


def failures(
    results: Table, areas: Areas, learned: Mapping[str, Mapping[str, float]], unfinished: Sequence[str], refined: str
) -> list[str]:
    """The sentences.

    Args:
        areas: as generated and pasted back, with their resamples
        learned: metrics of stage `editing`, by vector
        unfinished: methods that were still improving when training ended
        refined: name of the refined method
    """
    figures = figures_of(results)
    ours = [name for name in (EDITGAN, PLUS, refined) if name in figures]
    said = [embedding(figures), missed(figures, ours), disagreement(figures, ours)]
    said += [not_ahead(areas, name, INTERFACEGAN) for name in ours if name != EDITGAN]
    said += [
        extremes(figures),
        weak_vectors(learned, word("heads", figures)),
        leaking_vectors(learned),
        missing(figures),
    ]
    if unfinished:
        said.append(f"Training ended while these networks still improved: {', '.join(map(title_of, unfinished))}.")
    return [sentence for sentence in said if sentence]


def embedding(figures: Figures) -> str:
    """What is lost before any edit."""
    start, photos = figures[RECONSTRUCTION], figures[INPUT]
    success, kept = ranked_by(figures)
    identity, smiling, photo = (word(text, figures) for text in ("an identity", "smiling", "photo"))
    sentence = f"The embedding loses {word('identity', figures)}: edits start from {identity} of"
    sentence += f" {start[kept].value:.3f} to the {photo}."
    if start[success].value > photos[success].value:
        sentence += (
            f" The judge calls {start[success].value:.1f} % of the unedited reconstructions {smiling}, but only"
            f" {photos[success].value:.1f} % of the {photo}s."
        )
    return sentence


def missed(figures: Figures, names: Sequence[str]) -> str:
    """How many heads do not smile."""
    said, (success, _) = [], ranked_by(figures)
    for name in names:
        smiling = figures[name][success]
        said.append(f"{title_of(name)} {round(smiling.samples * (1 - smiling.value / 100))}")
    heads, smile = word("heads", figures), word("smile", figures)
    return f"Of {figures[INPUT][success].samples} {heads} these do not {smile}, by the judge: {', '.join(said)}."


def disagreement(figures: Figures, names: Sequence[str]) -> str:
    """Judges of success that disagree about a method."""
    listed, disagree, (success, _) = [], False, ranked_by(figures)
    judges = judges_of(figures[INPUT])
    for name in (*names, *(one for one in TRUTHS if one in figures)):
        said = {judge: figures[name][Column(success.metric, judge)].value for judge in judges if name in figures}
        far = bool(said) and max(said.values()) - min(said.values()) > DISAGREEMENT
        if far or name in TRUTHS:
            values = ", ".join(f"{value:.1f} % by {judge}" for judge, value in said.items())
            listed.append(f"{title_of(name)}: {values}")
            disagree = disagree or name not in TRUTHS
    networks = "smile networks" if success == SMILING else "judges"
    return f"The {networks} disagree. {'; '.join(listed)}." if disagree else ""


def not_ahead(areas: Areas, ours: str, other: str) -> str:
    """The judges by which the area of our method is not significantly larger than that of another method."""
    if Row(ours) not in areas or Row(other) not in areas:
        return ""
    found = []
    for judge, mine in areas[Row(ours)].items():
        gain = mine - areas[Row(other)][judge]  # on the same resamples of heads  # [1 + resamples]
        low, high = percentile_interval(gain[1:])
        if low <= 0:
            word = "behind" if high < 0 else "no significant difference"
            found.append(f"by {judge} {word}, {gain[0]:+.1f} [{low:+.1f}, {high:+.1f}]")
    where = f"In the area under the curve, {title_of(ours)} is not ahead of {title_of(other)}"
    return f"{where}: {'; '.join(found)}." if found else ""


def extremes(figures: Figures) -> str:
    """The methods with the lowest identity, the highest KID and the highest leak."""
    edits = {name: of for name, of in figures.items() if name not in (INPUT, RECONSTRUCTION, *TRUTHS)}
    said, (_, kept) = [], ranked_by(figures)
    lowest = f"lowest {word('identity', figures)}"
    for column, what, sign in ((kept, lowest, 1), (KID, "highest KID", -1), (LEAK, "highest leak", -1)):
        having = {name: of[column] for name, of in edits.items() if column in of}
        if having:
            worst = min(having, key=lambda name, having=having, sign=sign: sign * having[name].value)
            start = figures[RECONSTRUCTION].get(column)
            against = "" if start is None else f"; reconstruction {cell(start, column, interval=False)}"
            said.append(f"{title_of(worst)} has the {what} ({cell(having[worst], column, interval=False)}{against})")
    return f"{'; '.join(said)}. KID and leak are multiplied by 1000." if said else ""


def weak_vectors(learned: Mapping[str, Mapping[str, float]], heads: str = "heads") -> str:
    """The vectors of one head that make less than half of the requested change on the training heads."""
    shares = {}
    for name, row in of_one_head(learned).items():
        if row["followed_start"] < 1:
            shares[name] = (row["followed_vector"] - row["followed_start"]) / (1 - row["followed_start"])
    weak = sorted((share, name) for name, share in shares.items() if share < WEAK)
    listed = ", ".join(f"{name} {100 * share:.0f} %" for share, name in weak)
    where = f"By the segmentation, these vectors make less than half of the requested change on their training {heads}"
    return f"{where}: {listed}." if weak else ""


def leaking_vectors(learned: Mapping[str, Mapping[str, float]]) -> str:
    """The vectors of one head that change most outside their region, on held-out heads."""
    leaks = {
        name: value
        for name, row in of_one_head(learned).items()
        for key, value in row.items()
        if key.startswith("vector_leak_mse_val")
    }
    most = sorted(leaks, key=lambda name: (-leaks[name], name))[:LISTED]
    listed = ", ".join(f"{name} {1000 * leaks[name]:.1f}" for name in most)
    return f"These vectors change most outside their region (mean squared error x1000): {listed}." if most else ""


def of_one_head(learned: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """Without the vectors that are means over several heads."""
    return {name: row for name, row in learned.items() if f"{name}_mean" in learned}


def missing(figures: Mapping[str, Any]) -> str:
    """What these data do not allow to measure."""
    said, smiles = [], ranked_by(figures)[0] == SMILING
    if smiles and (MASKGAN not in figures or SMILING not in figures[MASKGAN]):
        said.append("MaskGAN is left out: it needs masks of all training pictures, which these data do not have.")
    if not any(name in figures for name in TRUTHS):
        if smiles:
            said.append("There is no picture of a true smile, so the distance to a true smile is not measured.")
        else:
            said.append("There is no picture of a true change, so the distance to a true change is not measured.")
    return " ".join(said)
