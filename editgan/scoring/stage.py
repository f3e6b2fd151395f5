"""Stage `scoring`: score every method at every strength on the test heads, and choose the strengths of the table."""

import contextlib
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.config import Params
from editgan.data.archive import load_attributes
from editgan.data.protocol import load_protocol
from editgan.editing.vectors import EditingVector
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.judges.load import load_guide
from editgan.judges.quality import SMILE_THRESHOLD, measure
from editgan.methods.registry import (
    CONDITIONAL,
    INTERFACEGAN,
    LOCALEDITING,
    Method,
    Renderer,
    load_methods,
)
from editgan.methods.smile import EDITGAN, PLUS, RECONSTRUCTION, at_rest, refine_resumably, refined_name
from editgan.runtime.stage import StageContext
from editgan.scoring.rows import BATCH, Rows, Scored, score_rows
from editgan.scoring.scores import Heads, Scores, load_heads, save_heads
from editgan.scoring.table import Table, parse_table, table_csv
from editgan.weights import save_halves, write_bytes, write_json

REFINE_AGAIN = "lower editing.refine.lr and run stage scoring again"
SMILING_SHARE = 0.9  # share of validation heads that should smile at the chosen strength


def run(context: StageContext) -> None:
    """Write the outputs of the stage.

    results.csv (every row at every strength), heads.safetensors (values per head, from which areas are computed),
    metrics.json (the chosen strengths) and refined.safetensors (refined latents at the chosen strength of EditGAN+).
    """
    params, device, protocol = context.params.scoring, context.device, load_protocol(context.input("data"))
    per_head = (protocol.success, protocol.kept)  # stored per head: areas and their intervals are computed from these
    vectors, methods, renderer = load_methods(
        context.root / "outputs", vector=params.vector, plus=params.plus_vector, device=device
    )
    strengths = {
        EDITGAN: params.editgan,
        PLUS: params.editgan_plus,
        INTERFACEGAN: params.interfacegan,
        CONDITIONAL: params.interfacegan,
        LOCALEDITING: params.localediting,
    }
    metrics = choose(context, methods, renderer, strengths, vectors)
    chosen = metrics["chosen"][PLUS]["strength"]
    jobs = [(RECONSTRUCTION, 0.0), *((name, strength) for name in methods for strength in strengths[name])]
    refined_row = refined_name(context.params.editing.refine.steps)
    refined = [(refined_row, strength) for strength in sorted({*params.refined, chosen})]
    jobs = refined + jobs  # refinement takes ten times as long: started last, it would leave a core idle at the end

    found: dict[tuple[str, float], list[Scored]] = {}
    load = partial(Sweep, context.root / "outputs", context.params, device, context.work, chosen)
    scores = score_rows(load, jobs, device=device, processes=context.params.runtime.processes)
    for job, scored in zip(jobs, scores, strict=True):
        found[job] = scored
        context.run.progress(len(found), len(jobs), "sets of heads", "{} at {:g}".format(*job))
    table: Table = {}
    heads: Heads = {}
    for job in jobs[len(refined) :] + refined:
        for one in found[job]:
            table[one.row] = one.scores.figures
            kept = {column: values for column, values in one.scores.heads.items() if column.metric in per_head}
            heads |= {(one.row, column): values for column, values in kept.items()}
    write_bytes(context.out / "results.csv", table_csv(table))
    save_heads(context.out / "heads.safetensors", heads, {}, half=True)
    latents = load().refined(chosen)
    save_halves(context.out / "refined.safetensors", {"w_plus": latents}, {"strength": chosen}, remedy=REFINE_AGAIN)
    write_json(context.out / "metrics.json", metrics)
    context.run.log_file(context.out / "results.csv")
    context.run.log_metrics({f"{name}.chosen": row["strength"] for name, row in metrics["chosen"].items()})


def choose(
    context: StageContext,
    methods: dict[str, Method],
    renderer: Renderer,
    strengths: dict[str, tuple[float, ...]],
    vectors: dict[str, EditingVector],
) -> dict:
    """Choose the strength of each method on neutral validation heads, by the guide.

    It is the smallest strength with a share of smiles of at least SMILING_SHARE; if there is none, the strength with
    the largest share. Heads from which any vector was learned are left out for all methods.
    """
    data = context.input("data")
    val = load_latents(context.input("encoder") / "latents.safetensors")["val"]
    attributes = load_attributes(data / "val.zip")[: len(val)]
    sources = ", ".join(vector.source for vector in vectors.values()).split(", ")
    learners = {int(source.removeprefix("val/")) for source in sources}
    protocol = load_protocol(data)
    neutral = [i for i, head in enumerate(attributes) if at_rest(head, protocol) and i not in learners]
    if not neutral:
        what = "neutral validation head" if protocol.faces else f"validation picture without {protocol.attribute}"
        raise UserError(f"scoring: no embedded {what} is left for choosing; raise encoder.val_images")
    guide, chosen = load_guide(context.input("judges")).to(context.device), {}
    for done, (name, method) in enumerate(methods.items()):
        context.run.progress(done, len(methods), "methods", f"choosing the strength of {name}")
        edit_at, shares = method(val[neutral]), []
        for strength in strengths[name]:
            pictures = renderer.pictures(edit_at(strength))
            smile = measure(guide.smile, pictures, device=context.device, batch=BATCH)
            shares.append(float((smile >= SMILE_THRESHOLD).double().mean()))
        enough = [index for index, share in enumerate(shares) if share >= SMILING_SHARE]
        best = enough[0] if enough else max(range(len(shares)), key=shares.__getitem__)
        share = {f"{protocol.success}_guide_val{len(neutral)}": round(shares[best], 6)}
        chosen[name] = {"strength": strengths[name][best], **share}
        shown = "heads" if protocol.faces else "pictures"
        print(f"{name}: strength {strengths[name][best]:g}, {shares[best]:.0%} of {len(neutral)} validation {shown}")
    return {"chosen": chosen, "val_heads": len(neutral)}


class Sweep(Rows):
    """Rows including EditGAN+ refined at every strength; resumes from the finished rows of a killed run."""

    def __init__(self, outputs: Path, params: Params, device: torch.device, work: Path, chosen: float) -> None:
        super().__init__(outputs, params, device)
        self.editing, self.work, self.chosen = params.editing, work, chosen
        self.methods[refined_name(self.editing.refine.steps)] = lambda w_plus: self.refined_edit

    def score(self, method: str, strength: float | None) -> list[Scored]:
        """Metrics only, without pictures; those already in the work folder are read."""
        path = self.work / "scored" / f"{method}_{strength:g}.csv"
        numbers = path.with_suffix(".safetensors")
        if not path.exists():
            scored = super().score(method, strength)
            of_heads = {(one.row, column): values for one in scored for column, values in one.scores.heads.items()}
            save_heads(numbers, of_heads, {})
            write_bytes(path, table_csv({one.row: one.scores.figures for one in scored}))  # last: marks the job as done
        table, (of_heads, _) = parse_table(path.read_bytes(), str(path)), load_heads(numbers)
        return [
            Scored(row, Scores(figures, {column: values for (of, column), values in of_heads.items() if of == row}))
            for row, figures in table.items()
        ]

    def refined_edit(self, strength: float) -> contextlib.AbstractContextManager[Tensor]:
        """The refined latents, at the chosen strength rounded to float16, as they are stored."""
        latents = self.refined(strength)
        return contextlib.nullcontext(latents.half().float() if strength == self.chosen else latents)

    def refined(self, strength: float) -> Tensor:
        """Latents of the vector at a strength after refinement; finished batches are read from the work folder."""
        assets = self.outputs / "assets"
        identity = load_network("dlib_resnet", assets).to(self.device) if self.editing.weights.identity else None
        return refine_resumably(
            self.renderer.G,
            self.renderer.S,
            use_winograd(load_network("lpips_vgg", assets)).to(self.device),
            self.w_plus,
            self.vectors[PLUS],
            scale=strength,
            params=self.editing,
            identity=identity,
            batch=BATCH,
            work=self.work / f"{strength:g}",
            device=self.device,
        )
