"""The benchmark in sentences: who wins by each judge, and whether what EditGAN aims at is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from editgan.benchmark.methods import INTERFACEGAN, LOCALEDITING, PLUS
from editgan.benchmark.smile import INPUT, PASTED, RECONSTRUCTION, TRULY_SMILING
from editgan.benchmark.titles import title_of
from editgan.metrics import percentile_interval

if TYPE_CHECKING:
    from editgan.benchmark.scores import Scores

AIM = 95.0  # percent smiling, by the judge, that EditGAN+ aims at


def verdict(
    scores: dict[str, Scores],
    areas: dict[str, dict[str, Tensor]],
    curves: dict[str, list[dict[str, float]]],
    refined: str,
) -> list[str]:
    """Sentences, each an item of a Markdown list.

    Args:
        areas: by method and judge, the area itself and its resamples  # [1 + resamples]
        curves: by method what the judges say at each strength
        refined: name of the refined method
    """
    said = []
    for suffix, where in (("", "as generated"), (PASTED, "pasted back")):
        for judge in areas[refined]:
            said.append(largest_area(areas, suffix, where, judge))
    said += [beats(areas, refined, other) for other in (INTERFACEGAN, LOCALEDITING)]
    return [f"- {sentence}" for sentence in [*said, aim_of_plus(scores, curves)]]


def largest_area(areas: dict[str, dict[str, Tensor]], suffix: str, where: str, judge: str) -> str:
    """Who has the largest area of a block by a judge, and whose lies within the interval of the paired difference."""
    block = {name: row[judge] for name, row in areas.items() if name.endswith(PASTED) is bool(suffix)}
    best = max(block, key=lambda name: float(block[name][0]))
    near = [name for name in block if name != best and percentile_interval((block[best] - block[name])[1:])[0] <= 0]
    with_it = f"not told apart from it: {', '.join(map(title_of, near))}" if near else "by more than every interval"
    return f"Area, {where}, by {judge}: {title_of(best)} is largest with {block[best][0]:.1f}; {with_it}."


def beats(areas: dict[str, dict[str, Tensor]], ours: str, other: str) -> str:
    """Whether a method beats another in area, with intervals that do not touch, by each judge."""
    found = []
    for judge in areas[ours]:
        (low, high), (lowest, highest) = (percentile_interval(areas[name][judge][1:]) for name in (ours, other))
        outcome = "ahead" if low > highest else "behind" if high < lowest else "intervals touch"
        difference = areas[ours][judge] - areas[other][judge]
        bounds = percentile_interval(difference[1:])
        found.append(f"{judge} {outcome} ({difference[0]:+.1f} [{bounds[0]:+.1f}, {bounds[1]:+.1f}], paired)")
    return f"{title_of(ours)} against {title_of(other)}, as generated: {'; '.join(found)}."


def aim_of_plus(scores: dict[str, Scores], curves: dict[str, list[dict[str, float]]]) -> str:
    """EditGAN+ aims at AIM percent smiling at one strength with the highest identity, least leak and distance."""
    best = max(curves[PLUS], key=lambda row: row["smiling_judge"])
    rivals = {
        name: max((row["identity_mobilefacenet"] for row in rows if row["smiling_judge"] >= AIM), default=None)
        for name, rows in curves.items()
        if not name.endswith(PASTED) and name != RECONSTRUCTION
    }
    rivals |= {
        name: row.values["identity_mobilefacenet"]
        for name, row in scores.items()
        if name not in curves and name not in (INPUT, TRULY_SMILING) and not name.endswith(PASTED)
        if row.values["smiling_judge"] >= AIM
    }
    reached = {name: kept for name, kept in rivals.items() if kept is not None}
    sentence = f"{title_of(PLUS)} makes at most {best['smiling_judge']:.1f} % smile by the judge, at an identity of"
    sentence += f" {best['identity_mobilefacenet']:.3f} ({AIM:g} % were aimed at, at the highest identity of all)."
    if reached:
        first = max(reached, key=reached.__getitem__)
        sentence += f" Of those that reach {AIM:g} %, {title_of(first)} keeps most identity, {reached[first]:.3f}."
    edits = {
        name: row.values
        for name, row in scores.items()
        if name not in (INPUT, RECONSTRUCTION, TRULY_SMILING) and not name.endswith(PASTED)
    }
    leaks = {name: row["leak_to_reconstruction"] for name, row in edits.items() if "leak_to_reconstruction" in row}
    least = min(leaks, key=leaks.__getitem__)
    sentence += f" At the strengths of the table {title_of(least)} leaks least"
    near = {name: row["lpips_alex"] for name, row in edits.items() if "lpips_alex" in row}
    if near:
        sentence += f" and {title_of(min(near, key=near.__getitem__))} comes nearest to the truth (LPIPS-Alex)"
    return sentence + "."
