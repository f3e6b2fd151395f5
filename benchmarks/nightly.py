"""Error rates of the nightly regression check, on simulated nights or on models that are retrained and broken.

    python benchmarks/nightly.py simulated [--nights 40]
    python benchmarks/nightly.py retrained [--seeds 1 2 3 4] [--plant 5] [--folder runs/nights]

*simulated* takes minutes. For a quiet night, without regression, heads are resampled with replacement from the accepted
per-head metrics, and a share of them (the churn) gets the metrics of another head, which leaves the expected mean
unchanged. A regression is added to one row, in the first column of each tolerance at once, in multiples of its
tolerance. FID, KID, areas and mouth IoU have no values per head and are not changed.

*retrained* takes hours. For a quiet night, the segmentation is trained and both smile vectors are learned with another
seed, and EditGAN and EditGAN+ are measured on the test heads; all other rows keep their accepted values. The ordered
pairs of these nights and the accepted one show how large the tolerances must be. Broken nights are compared with the
accepted one: vectors with noise; ensembles of one member, and vectors learned with them; each smile judge replaced by
each other one.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from types import SimpleNamespace

import torch
from labels import learned
from measuring import Trained, header, row, trained_command_line
from torch import Tensor

from editgan.editing.stage import PREVIEW_HEADS, learn, plan
from editgan.editing.vectors import EditingVector, apply_vector
from editgan.errors import UserError
from editgan.judges.load import SMILE_JUDGES
from editgan.methods.smile import EDITGAN, PLUS, RECONSTRUCTION
from editgan.report.nightly import (
    AT_ONCE,
    BASELINE,
    WATCHED,
    Change,
    Figures,
    Key,
    NightlyParams,
    changes,
    load_figures,
    load_tolerances,
    tolerances_of,
)
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.tracking import Run
from editgan.scoring.rows import Rows
from editgan.scoring.scores import load_heads, save_heads
from editgan.scoring.table import Column, Row
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.predict import predict_masks
from editgan.segmentation.stage import MIN_LABEL_PIXELS
from editgan.segmentation.train import drop_small_labels
from editgan.training import generator_for
from editgan.weights import sha256

BINARY = "smiling"  # the metric with values 0 and 100
SIZES = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0)  # of added regressions, in tolerances; 0: a quiet night
CHURN = (0.0, 0.02, 0.05, 0.1)
NOISE = (1.0, 0.5, 0.25)  # norm of the noise relative to that of the vector
MODELS = ("generator/G_ema", "encoder/latents", "segmentation/S", "judges/judge")
Night = tuple[dict[Key, Tensor], dict[Key, float]]  # values per head, and values of whole rows


def night(accepted: Figures, churn: float, generator: torch.Generator) -> tuple[Figures, Figures]:
    """Resampled heads: accepted values, and values of a quiet night."""
    count = len(next(iter(accepted.heads.values())))
    drawn = torch.randint(count, (count,), generator=generator)
    others = torch.randint(count, (count,), generator=generator)
    current = torch.where(torch.rand(count, generator=generator) < churn, others, drawn)
    before, after = ({key: values[heads] for key, values in accepted.heads.items()} for heads in (drawn, current))
    return Figures(before, accepted.at_once, accepted.data), Figures(after, accepted.at_once, accepted.data)


def planted(values: Tensor, metric: str, size: float, generator: torch.Generator) -> Tensor:
    """Values per head [N], made worse by `size` on average."""
    if metric == BINARY:
        smiling = values.nonzero().flatten()
        lost = smiling[torch.randperm(len(smiling), generator=generator)[: round(size / 100 * len(values))]]
        return values.index_fill(0, lost, 0.0)
    each = 2 * torch.rand(len(values), generator=generator)
    return values - WATCHED[metric][1] * size * each / each.mean()


def columns_of(accepted: Figures, method: str) -> dict[str, Key]:
    """The first column of a method, without paste-back, for each tolerance."""
    found: dict[str, Key] = {}
    for key in sorted(accepted.heads):
        if key[0] == Row(method):
            found.setdefault(WATCHED[key[1].metric][0], key)
    return found


def rates(
    accepted: Figures, params: NightlyParams, *, method: str, churn: float, size: float, nights: int, seed: int
) -> tuple[dict[str, float], float]:
    """For each tolerance, the share of nights that detect the regression; and the share of nights with other alarms."""
    generator = generator_for(seed, "night", churn, size)
    columns, tolerances = columns_of(accepted, method) if size else {}, tolerances_of(Row(method), params)
    caught, others = dict.fromkeys(columns, 0), 0
    for _ in range(nights):
        before, after = night(accepted, churn, generator)
        worse = dict(after.heads)
        for name, key in columns.items():
            worse[key] = planted(worse[key], key[1].metric, size * getattr(tolerances, name), generator)
        found = changes(before, Figures(worse, after.at_once, after.data), params, seed=seed)
        alarms = {(one.row, one.column) for one in found if one.regressed}
        for name, key in columns.items():
            caught[name] += key in alarms
        others += bool(alarms - set(columns.values()))
    return {name: count / nights for name, count in caught.items()}, others / nights


class Nights:
    """The trained models, and the heads to measure nights on."""

    def __init__(self, run: Trained) -> None:
        self.run, self.rows, self.strengths = run, Rows(run.outputs, run.params, run.device), run.chosen()
        self.G, self.S, self.vectors = self.rows.renderer.G, self.rows.renderer.S, self.rows.vectors

    def retrained(self, seed: int, members: int) -> Night:
        """A night with segmentation and smile vectors trained as in their stages."""
        run, scoring, names = self.run, self.run.params.scoring, self.S.class_names
        masks = drop_small_labels(torch.as_tensor(run.donors["donors"]), MIN_LABEL_PIXELS)
        S = learned(run, run.latents("few_shot")[: len(masks)], masks, names, seed=seed, members=members)
        val, context = run.latents("val").to(run.device), SimpleNamespace(params=run.params, run=Run("nights"))
        lessons = plan(
            {EDITGAN: run.edits[scoring.vector], PLUS: run.edits[scoring.plus_vector]},
            predict_masks(self.G, S, val).numpy(), run.attributes("val")[: len(val)], **run.donors,
            heads=run.params.editing.heads, preview_heads=PREVIEW_HEADS,
        )  # fmt: skip
        if len(lessons) < len(self.vectors):
            raise UserError(f"seed {seed}: an edit changes the mask of no validation head")
        vectors = {}
        for lesson in lessons:
            start = val[lesson.sources]
            found, _ = learn(context, self.G, S, run.editor.lpips_vgg, start, lesson, None)
            delta = (found.w_plus - start).mean(0).cpu()
            vectors[lesson.name] = EditingVector(lesson.name, lesson.edit.region, "validation heads", delta)
        return self.figures(S, vectors)

    def noisy(self, method: str, size: float, seed: int) -> Night:
        """A night with noise added to a vector, the same noise in every row of W+."""
        delta = self.vectors[method].delta_w_plus
        noise = torch.randn(delta.shape[-1:], generator=generator_for(seed, "noise")).expand_as(delta)
        vector = replace(self.vectors[method], delta_w_plus=delta + size * delta.norm() * noise / noise.norm())
        return self.figures(self.S, {method: vector})

    def figures(self, S: SegmentationEnsemble, vectors: dict[str, EditingVector]) -> Night:
        self.rows.renderer = replace(self.rows.renderer, S=S)
        self.rows.masks = predict_masks(self.G, S, self.rows.w_plus)
        of_heads, at_once = {}, {}
        for method, vector in vectors.items():
            edited = apply_vector(self.rows.w_plus, vector, self.strengths[method])
            self.rows.methods[method] = lambda w_plus, edited=edited: lambda strength: contextlib.nullcontext(edited)
        for method in (RECONSTRUCTION, *vectors):
            for one in self.rows.score(method, self.strengths.get(method, 0.0)):
                scored = one.row._replace(strength=None)
                of_heads |= {(scored, column): values for column, values in one.scores.heads.items()}
                at_once |= {(scored, column): figure.value for column, figure in one.scores.figures.items()}
        return of_heads, {key: value for key, value in at_once.items() if key[1].metric in AT_ONCE}


def kept(path: Path, made_by: dict, make: Callable[[], Night]) -> Night:
    """Values of a night: read from the file if it belongs to these models, else computed and saved."""
    if path.exists():
        of_heads, about = load_heads(path)
        if about["made_by"] == made_by:
            at_once = {
                (Row(method, None, pasted), Column(metric, network)): value
                for method, _, pasted, metric, network, value in about["at_once"]
            }
            return of_heads, at_once
    begun = time.monotonic()
    of_heads, at_once = make()
    numbers = [[*scored, *column, value] for (scored, column), value in at_once.items()]
    save_heads(path, of_heads, dict(made_by=made_by, at_once=numbers))
    print(f"{path.stem}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return of_heads, at_once


def whole(accepted: Figures, night: Night) -> Figures:
    """Values of a night; accepted values for all rows that the night does not have."""
    of_heads, at_once = night
    return Figures(accepted.heads | of_heads, accepted.at_once | at_once, accepted.data)


def swapped(accepted: Figures, judge: str, other: str) -> Figures:
    """Replace the smile metrics of `judge` by those of `other`, in every row."""
    replaced, source = (Column("smiling", name) for name in (judge, other))
    heads = {
        (one, column): accepted.heads[one, source if column == replaced else column] for one, column in accepted.heads
    }
    return replace(accepted, heads=heads)


def report_quiet(figures: dict[str, Figures], params: NightlyParams) -> None:
    """Print the regressions of every ordered pair of nights (accepted, current), and the differences between seeds."""
    far: dict[tuple[bool, str], list[Change]] = {}
    header("accepted", "current", "regressions")
    pairs, alarms = list(permutations(figures, 2)), 0
    for accepted, current in pairs:
        found = changes(figures[accepted], figures[current], params, seed=0)
        worse = [str(one) for one in found if one.regressed]
        alarms += bool(worse)
        row(accepted, current, "; ".join(worse) or "nothing")
        for one in found:
            if one.difference:
                wide = tolerances_of(one.row, params) is params.single_vector
                far.setdefault((wide, WATCHED[one.column.metric][0]), []).append(one)
    print(f"\nfalse alarms: {alarms} of {len(pairs)} pairs")
    header("rows", "tolerance", "value", "largest difference", "median", "largest significant worsening")
    for (wide, name), found in sorted(far.items()):
        sizes = torch.tensor([abs(one.difference) for one in found])
        cells = f"{found[0].tolerance:g}", f"{sizes.max():.4g}", f"{sizes.median():.4g}"
        row("of EditGAN's vector" if wide else "others", name, *cells, f"{max(one.worsening for one in found):.4g}")


def report_broken(accepted: Figures, broken: Iterable[tuple[str, Figures]], params: NightlyParams) -> None:
    """Print which broken nights are detected, and the first regression of each."""
    header("broken", "first regression")
    caught: dict[str, list[bool]] = {}
    for name, figures in broken:
        worse = [str(one) for one in changes(accepted, figures, params, seed=0) if one.regressed]
        caught.setdefault(name.rpartition(",")[0], []).append(bool(worse))
        row(name, worse[0] if worse else "NOT DETECTED")
    header("broken", "nights", "detected")
    for name, hits in caught.items():
        row(name, len(hits), f"{100 * sum(hits) / len(hits):.0f} %")


def simulated(accepted: Figures, params: NightlyParams, nights: int) -> None:
    families = list(dict.fromkeys(held for name, (held, _) in WATCHED.items() if name not in AT_ONCE))
    print(f"{nights} nights of each kind, regression added to {PLUS}; detected, in % of nights")
    header("churn", "regression, in tolerances", *families, "any other alarm")
    for churn in CHURN:
        for size in SIZES:
            caught, others = rates(accepted, params, method=PLUS, churn=churn, size=size, nights=nights, seed=0)
            cells = (f"{100 * caught[name]:.0f}" if name in caught else "-" for name in families)
            row(f"{churn:g}", f"{size:g}", *cells, f"{100 * others:.0f}")


def retrained(accepted: Figures, params: NightlyParams, options: argparse.Namespace) -> None:
    run = Trained(options)
    nights, members = Nights(run), run.params.segmentation.members
    made_by = {name: sha256(options.outputs / f"{name}.safetensors") for name in MODELS}
    made_by["params"] = run.params.model_dump(mode="json", exclude={"runtime"})

    def night(name: str, make: Callable[..., Night], *how: object) -> Figures:
        return whole(accepted, kept(options.folder / f"{name}.safetensors", made_by, lambda: make(*how)))

    same = night("as-accepted", nights.figures, nights.S, nights.vectors)
    off = max(float((same.heads[key] - values).abs().mean()) for key, values in accepted.heads.items())
    print(f"the accepted models, measured by this script: largest mean difference per head {off:.2g}")
    accepted = same
    quiet = {f"seed {seed}": night(f"seed-{seed}", nights.retrained, seed, members) for seed in options.seeds}
    if quiet:
        report_quiet({"accepted": accepted} | quiet, params)
    if not options.plant:
        return
    tries = range(1, options.plant + 1)
    broken = [(f"one member, {seed}", night(f"one-member-{seed}", nights.retrained, seed, 1)) for seed in tries]
    for size, method, seed in product(NOISE, nights.vectors, tries):
        figures = night(f"{method}-noise-{size:g}-{seed}", nights.noisy, method, size, seed)
        broken.append((f"{method}, noise of {size:g}, {seed}", figures))
    for judge, other in permutations(SMILE_JUDGES, 2):
        broken.append((f"judge swapped, {other} for {judge}", swapped(accepted, judge, other)))
    report_broken(accepted, broken, params)


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("kind", choices=("simulated", "retrained"))
    parser.add_argument("--nights", type=int, default=40, help="number of simulated nights of each kind")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3, 4], help="of quiet nights, minutes each")
    parser.add_argument("--plant", type=int, default=5, help="number of broken nights of each kind")
    parser.add_argument("--folder", type=Path, default=Path("runs/nights"), help="stores the values of nights")
    options = parser.parse_args()
    accepted, params = load_figures(PROJECT_ROOT / BASELINE), load_tolerances(PROJECT_ROOT)
    if options.kind == "simulated":
        simulated(accepted, params, options.nights)
    else:
        retrained(accepted, params, options)


if __name__ == "__main__":
    main()
