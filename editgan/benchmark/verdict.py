"""The benchmark in sentences: the best method by each judge, and whether EditGAN reaches its goals."""

from torch import Tensor

from editgan.benchmark.titles import TRUTHS, ranked_by, title_of, word
from editgan.methods.registry import INTERFACEGAN, LOCALEDITING
from editgan.methods.smile import INPUT, PLUS, RECONSTRUCTION
from editgan.metrics import percentile_interval
from editgan.scoring.table import Column, Row, Table, of_method, only

AIM = 95.0  # goal of EditGAN+: percent smiling by the judge
LEAK, DISTANCE = Column("leak_to_reconstruction"), Column("lpips", "alex")


def verdict(results: Table, areas: dict[Row, dict[str, Tensor]], sweep: Table, refined: str) -> list[str]:
    """The sentences.

    Args:
        areas: by row (without its strength) and judge: the area itself and its resamples  # [1 + resamples]
        sweep: every method at every strength
        refined: name of the refined method
    """
    said = [
        largest_area(only(areas, pasted=pasted), where, judge)
        for pasted, where in ((False, "as generated"), (True, "pasted back"))
        for judge in areas[Row(refined)]
    ]
    said += [compared(areas, refined, other) for other in (INTERFACEGAN, LOCALEDITING)]
    return [*said, aim_of_plus(only(results, pasted=False), sweep)]


def largest_area(areas: dict[Row, dict[str, Tensor]], where: str, judge: str) -> str:
    """The method with the largest area by a judge, and the methods that do not differ significantly from it."""
    block = {row.method: by_judge[judge] for row, by_judge in areas.items()}
    best = max(block, key=lambda name: float(block[name][0]))
    near = [name for name in block if name != best and percentile_interval((block[best] - block[name])[1:])[0] <= 0]
    with_it = f"no significant difference to {', '.join(map(title_of, near))}" if near else "others significantly lower"
    return f"Area, {where}, by {judge}: {title_of(best)} has the largest, {block[best][0]:.1f}; {with_it}."


def compared(areas: dict[Row, dict[str, Tensor]], ours: str, other: str) -> str:
    """Which of two methods has the larger area by each judge, by the paired interval of the difference."""
    found = []
    for judge, mine in areas[Row(ours)].items():
        gain = mine - areas[Row(other)][judge]  # on the same resamples of heads  # [1 + resamples]
        low, high = percentile_interval(gain[1:])
        if low > 0:
            found.append(f"by {judge} {title_of(ours)} is better by {gain[0]:.1f} [{low:.1f}, {high:.1f}]")
        elif high < 0:
            found.append(f"by {judge} {title_of(other)} is better by {-gain[0]:.1f} [{-high:.1f}, {-low:.1f}]")
        else:
            found.append(f"by {judge} no significant difference ({gain[0]:+.1f} [{low:+.1f}, {high:+.1f}])")
    return f"{title_of(ours)} against {title_of(other)}, as generated, paired: {'; '.join(found)}."


def aim_of_plus(results: Table, sweep: Table) -> str:
    """The goal of EditGAN+: AIM percent smiling at one strength with the highest identity, lowest leak and distance.

    Args:
        results: as generated
    """
    success, kept = ranked_by(sweep)
    best = max(of_method(sweep, PLUS).values(), key=lambda figures: figures[success].value)
    swept = {row.method for row in sweep}
    rows = [(row.method, figures) for row, figures in sweep.items() if not row.pasted and row.method != RECONSTRUCTION]
    rows += [
        (row.method, figures)
        for row, figures in results.items()
        if row.method not in swept and row.method not in (INPUT, *TRUTHS)
    ]
    reached: dict[str, float] = {}
    for name, figures in rows:
        if figures[success].value >= AIM:
            reached[name] = max(reached.get(name, -1.0), figures[kept].value)
    identity, smile = word("identity", sweep), word("smile", sweep)
    sentence = f"{title_of(PLUS)} makes at most {best[success].value:.1f} % {smile} by the judge, at"
    sentence += f" {word('an identity', sweep)} of {best[kept].value:.3f} (goal: {AIM:g} % at the highest {identity} of"
    sentence += " all methods)."
    if reached:
        first = max(reached, key=reached.__getitem__)
        sentence += (
            f" Of those that reach {AIM:g} %, {title_of(first)} has the highest {identity}, {reached[first]:.3f}."
        )
    edits = {
        row.method: figures for row, figures in results.items() if row.method not in (INPUT, RECONSTRUCTION, *TRUTHS)
    }
    least, nearest = (
        min((name for name in edits if column in edits[name]), key=lambda name: edits[name][column].value, default=None)
        for column in (LEAK, DISTANCE)
    )
    sentence += f" At the strengths of the table, {title_of(least)} has the lowest leak"
    if nearest is not None:
        sentence += f" and {title_of(nearest)} is nearest to the truth (LPIPS-Alex)"
    return sentence + "."
