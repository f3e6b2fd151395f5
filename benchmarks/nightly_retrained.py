"""Seed-to-seed variance of the nightly check: retrain with other seeds, and break models on purpose.

    python benchmarks/nightly_retrained.py [--seeds 1 2 3 4] [--plant 5] [--folder runs/nights]

A quiet night trains the segmentation and learns both smiles again with another seed, and measures EditGAN and EditGAN+
on the test heads at the strengths of the shipped sweep. Everything else keeps its accepted value: what does not depend
on the seed, and, because it takes long, EditGAN after refinement and the areas of the sweep. Every ordered pair of
these nights and the accepted one shows how large a tolerance must be. A broken night is compared with the accepted one:
--plant N uses N vectors with noise of each size, N ensembles of one member with the vectors learned with them, and each
smile judge replaced by each other one. Metrics of finished nights are stored in the folder.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.config import load_params
from editgan.data.archive import load_attributes, load_classes, load_masks
from editgan.editing.edits import load_edits
from editgan.editing.masks import edit_region
from editgan.editing.optimize import edit
from editgan.editing.stage import PREVIEW_HEADS, plan
from editgan.editing.vectors import EditingVector, apply_vector
from editgan.errors import UserError
from editgan.judges import SMILE_JUDGES
from editgan.methods.registry import PLUS
from editgan.methods.smile import EDITGAN, RECONSTRUCTION
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
from editgan.runtime.stage import select_device
from editgan.scoring.rows import Rows
from editgan.scoring.scores import load_heads, save_heads
from editgan.scoring.table import Column, Row
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.predict import features_of, predict_masks
from editgan.segmentation.stage import MIN_LABEL_PIXELS
from editgan.segmentation.training import drop_small_labels, train_ensemble
from editgan.training import generator_for
from editgan.weights import sha256

NOISE = (0.25, 0.5, 1.0)  # of corrupted vectors, in their own norms


class Nights:
    """The trained models and the heads that nights are measured on."""

    def __init__(self, outputs: Path, params_file: Path, edits_file: Path) -> None:
        self.params, self.data = load_params(params_file), outputs / "data"
        self.device = select_device(self.params.runtime)
        self.rows = Rows(outputs, self.params, self.device)
        self.S = self.rows.renderer.S
        self.vectors, self.G, self.edits_file = self.rows.vectors, self.rows.renderer.G, edits_file
        self.lpips = use_winograd(load_network("lpips_vgg", outputs / "assets")).to(self.device)
        self.labelled = self.rows.latents["few_shot"][: self.params.segmentation.labelled_images]
        self.val = self.rows.latents["val"].to(self.device)
        chosen = json.loads((outputs / "scoring" / "metrics.json").read_text())["chosen"]
        self.strengths = {name: chosen[name]["strength"] for name in (EDITGAN, PLUS)}

    def train(self, seed: int, members: int) -> SegmentationEnsemble:
        """The segmentation as its stage trains it."""
        params = self.params.segmentation
        masks = torch.as_tensor(load_masks(self.data / "pool.zip", range(len(self.labelled))))
        return train_ensemble(
            features_of(self.G, self.labelled, self.device)[1],
            drop_small_labels(masks, MIN_LABEL_PIXELS).to(self.device),
            class_names=load_classes(self.data / "classes.json").names,
            members=members,
            epochs=params.epochs,
            lr=params.lr,
            seed=seed,
        )

    def learn(self, S: SegmentationEnsemble) -> dict[str, EditingVector]:
        """Both smiles as stage editing learns them."""
        params, count, found = self.params.editing, len(self.labelled), {}
        names = {EDITGAN: self.params.scoring.vector, PLUS: self.params.scoring.plus_vector}
        described = load_edits(self.edits_file, S.class_names)
        for lesson in plan(
            {row: described[name] for row, name in names.items()},
            predict_masks(self.G, S, self.val).numpy(),
            load_attributes(self.data / "val.zip")[: len(self.val)],
            class_names=S.class_names,
            donors=load_masks(self.data / "pool.zip", range(count)),
            donor_attributes=load_attributes(self.data / "pool.zip")[:count],
            folder=self.edits_file.parent,
            heads=params.heads,
            preview_heads=PREVIEW_HEADS,
        ):
            start = self.val[lesson.sources]
            before, targets = (torch.as_tensor(masks, device=self.device) for masks in (lesson.before, lesson.targets))
            learned = edit(
                self.G,
                S,
                self.lpips,
                start,
                targets,
                edit_region(before, targets, S.class_ids(lesson.edit.region)),
                weights=params.edit.weights,
                steps=params.edit.steps,
                lr=params.edit.lr,
                shared_rows=params.shared_rows,
            )
            found[lesson.name] = EditingVector(
                name=names[lesson.name],
                region_classes=lesson.edit.region,
                source=", ".join(f"val/{source:05d}" for source in lesson.sources),
                delta_w_plus=(learned.w_plus - start).mean(0).cpu(),
            )
        if len(found) < len(names):
            raise UserError(f"nights: no vector of {', '.join(names[row] for row in names if row not in found)}")
        return found

    def figures(
        self, S: SegmentationEnsemble, vectors: dict[str, EditingVector]
    ) -> tuple[dict[Key, Tensor], dict[Key, float]]:
        """Of every head, and of all at once."""
        self.rows.renderer = replace(self.rows.renderer, S=S)
        self.rows.masks = predict_masks(self.G, S, self.rows.w_plus)
        of_heads, at_once = {}, {}
        for method, vector in vectors.items():
            edited = apply_vector(self.rows.w_plus, vector, self.strengths[method])
            self.rows.methods[method] = lambda w_plus, edited=edited: lambda strength: contextlib.nullcontext(edited)
        for method in (RECONSTRUCTION, *vectors):
            for one in self.rows.score(method, self.strengths.get(method, 0.0)):
                row = one.row._replace(strength=None)
                of_heads |= {(row, column): said for column, said in one.scores.heads.items()}
                at_once |= {(row, column): figure.value for column, figure in one.scores.figures.items()}
        return of_heads, {key: said for key, said in at_once.items() if key[1].metric in AT_ONCE}


def kept(path: Path, made_by: dict, make) -> tuple[dict[Key, Tensor], dict[Key, float]]:
    """Figures of a night: those in the file, if they are of these models, else made and kept."""
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
    numbers = [[*row, *column, value] for (row, column), value in at_once.items()]
    save_heads(path, of_heads, dict(made_by=made_by, at_once=numbers))
    print(f"{path.stem}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return of_heads, at_once


def whole(accepted: Figures, night: tuple[dict[Key, Tensor], dict[Key, float]]) -> Figures:
    """A night's own figures, and those accepted of every other row."""
    of_heads, at_once = night
    return Figures(accepted.heads | of_heads, accepted.at_once | at_once, accepted.data)


def swapped(accepted: Figures, judge: str, other: str) -> Figures:
    """What `other` says of smiles in place of what `judge` does, in every row."""
    mine, theirs = (Column("smiling", name) for name in (judge, other))
    heads = {(row, column): accepted.heads[row, theirs if column == mine else column] for row, column in accepted.heads}
    return replace(accepted, heads=heads)


def report_quiet(figures: dict[str, Figures], params: NightlyParams) -> None:
    """Every ordered pair as (accepted, tonight): which are called worse, and how far apart seeds are."""
    far: dict[tuple[bool, str], list[Change]] = {}
    print("\n| accepted | tonight | called worse |\n|---|---|---|")
    pairs, alarms = list(permutations(figures, 2)), 0
    for accepted, tonight in pairs:
        found = changes(figures[accepted], figures[tonight], params, seed=0)
        worse = [str(one) for one in found if one.regressed]
        alarms += bool(worse)
        print(f"| {accepted} | {tonight} | {'; '.join(worse) or 'nothing'} |", flush=True)
        for one in found:
            if one.difference:
                wide = tolerances_of(one.row, params) is params.single_vector
                far.setdefault((wide, WATCHED[one.column.metric][0]), []).append(one)
    print(f"\nfalse alarms: {alarms} of {len(pairs)} pairs\n")
    print("| rows | held to | tolerance | largest difference | median | largest worsening that is sure |")
    print("|---|---|---:|---:|---:|---:|")
    for (wide, name), found in sorted(far.items()):
        sizes = torch.tensor([abs(one.difference) for one in found])
        cells = f"{found[0].tolerance:g} | {sizes.max():.4g} | {sizes.median():.4g}"
        rows = "of EditGAN's vector" if wide else "others"
        print(f"| {rows} | {name} | {cells} | {max(one.worsening for one in found):.4g} |")


def report_broken(accepted: Figures, broken: Iterable[tuple[str, Figures]], params: NightlyParams) -> None:
    """Which of the broken nights are called worse than the accepted one, and by what first."""
    print("\n| broken | called worse, first of all |\n|---|---|")
    caught: dict[str, list[bool]] = {}
    for name, figures in broken:
        worse = [str(one) for one in changes(accepted, figures, params, seed=0) if one.regressed]
        caught.setdefault(name.rpartition(",")[0], []).append(bool(worse))
        print(f"| {name} | {worse[0] if worse else 'NOT CAUGHT'} |", flush=True)
    print("\n| broken | tries | caught |\n|---|---:|---:|")
    for name, hits in caught.items():
        print(f"| {name} | {len(hits)} | {100 * sum(hits) / len(hits):.0f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--edits", type=Path, default=Path("edits.yaml"))
    parser.add_argument("--accepted", type=Path, default=BASELINE, help="folder with the accepted figures")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3, 4], help="of quiet nights: minutes each")
    parser.add_argument("--plant", type=int, default=5, help="broken nights of each kind")
    parser.add_argument("--folder", type=Path, default=Path("runs/nights"), help="keeps the figures of nights")
    options = parser.parse_args()
    try:
        accepted, params = load_figures(options.accepted), load_tolerances(PROJECT_ROOT)
        nights = Nights(options.outputs, options.params, options.edits)
    except UserError as error:
        sys.exit(str(error))
    members = nights.params.segmentation.members
    models = ("generator/G_ema", "encoder/latents", "segmentation/S", "judges/judge")
    made_by = {name: sha256(options.outputs / f"{name}.safetensors") for name in models}
    made_by["params"] = nights.params.model_dump(mode="json", exclude={"runtime"})

    def night(name: str, make) -> Figures:
        return whole(accepted, kept(options.folder / f"{name}.safetensors", made_by, make))

    def retrained(seed: int, members: int):
        def make():
            S = nights.train(seed, members)
            return nights.figures(S, nights.learn(S))

        return make

    def with_noise(row: str, size: float, seed: int):
        def make():
            delta = nights.vectors[row].delta_w_plus
            noise = torch.randn(delta.shape[-1:], generator=generator_for(seed, "noise")).expand_as(delta)
            vector = replace(nights.vectors[row], delta_w_plus=delta + size * delta.norm() * noise / noise.norm())
            return nights.figures(nights.S, {row: vector})

        return make

    same = night("as-accepted", lambda: nights.figures(nights.S, nights.vectors))
    off = max(float((same.heads[key] - said).abs().mean()) for key, said in accepted.heads.items())
    print(f"the accepted models, measured by this script: figures of heads differ by {off:.2g} on the average at most")
    accepted = same
    quiet = {f"seed {seed}": night(f"seed-{seed}", retrained(seed, members)) for seed in options.seeds}
    if quiet:
        report_quiet({"accepted": accepted} | quiet, params)
    if options.plant:
        tries = range(1, options.plant + 1)
        broken = [(f"one member, {seed}", night(f"one-member-{seed}", retrained(seed, 1))) for seed in tries]
        broken += [
            (f"{row}, noise of {size:g}, {seed}", night(f"{row}-noise-{size:g}-{seed}", with_noise(row, size, seed)))
            for size, row in product(reversed(NOISE), nights.vectors)
            for seed in tries
        ]
        broken += [
            (f"judge swapped, {other} for {judge}", swapped(accepted, judge, other))
            for judge, other in permutations(SMILE_JUDGES, 2)
        ]
        report_broken(accepted, broken, params)


if __name__ == "__main__":
    main()
