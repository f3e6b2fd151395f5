"""Stage `sweep`: edits the test heads by every method at every strength, and keeps what the judges say of each head."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.benchmark.methods import (
    CONDITIONAL,
    INTERFACEGAN,
    LOCALEDITING,
    PLUS,
    Method,
    Renderer,
    load_methods,
)
from editgan.benchmark.smile import (
    EDITGAN,
    PASTED,
    RECONSTRUCTION,
    SmileHeads,
    load_heads,
    refine_resumably,
    refined_name,
)
from editgan.data.archive import load_attributes, load_images
from editgan.editing.edits import at_rest
from editgan.editing.vectors import EditingVector
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.images import to_float
from editgan.judges import SMILE_JUDGES, Judges, load_guide, load_judges
from editgan.judges.quality import SMILE_THRESHOLD, cosines, measure
from editgan.metrics import kernel_distance, outside_error, reference_sums
from editgan.segmentation.predict import predict_masks
from editgan.stage import StageContext
from editgan.weights import load_tensors, save_halves, save_tensors, write_json

DIGITS = 6
PER_HEAD = ("smile", "identity")  # kept of each head, since areas and their intervals are computed from them


def run(context: StageContext) -> None:
    """Write heads.safetensors (what judges say of each head), curves/METHOD.json (means), metrics.json (the chosen
    strengths) and refined.safetensors (latents of the vector at its chosen strength after refinement)."""
    params = context.params.sweep
    vectors, methods, renderer = load_methods(
        context.root / "outputs",
        vector=params.vector,
        plus=params.plus_vector,
        batch=params.batch,
        device=context.device,
    )
    strengths = {
        EDITGAN: params.editgan,
        PLUS: params.editgan_plus,
        INTERFACEGAN: params.interfacegan,
        CONDITIONAL: params.interfacegan,
        LOCALEDITING: params.localediting,
    }
    metrics = {"chosen": choose(context, methods, renderer, strengths, vectors)}
    chosen = metrics["chosen"][EDITGAN]["strength"]
    to_refine = tuple(sorted({*params.refined, chosen}))

    w_plus = load_latents(context.input("encoder") / "latents.safetensors")["test"]
    judges = load_judges(context.input("assets"), context.input("judges"), context.device)
    heads = load_heads(context.input("data"))
    judge = Sweep(context, judges, heads, w_plus, renderer)
    refined_row = refined_name(context.params.editing.refine.steps)
    total, done = sum(map(len, strengths.values())) + len(to_refine), 0
    judge.show(RECONSTRUCTION, 0.0, contextlib.nullcontext(w_plus))
    for name, method in methods.items():
        edit_at = method(w_plus)
        for strength in strengths[name]:
            context.run.progress(done, total, "sets of heads", f"{name} at {strength:g}")
            judge.show(name, strength, edit_at(strength))
            done += 1
    for strength in to_refine:

        def report(refined: int, count: int, done=done, strength=strength) -> None:
            context.run.progress(done + refined / count, total, "sets of heads", f"refining {strength:g}")

        latents = refined(context, renderer, w_plus, vectors[EDITGAN], strength, report)
        if strength == chosen:
            latents = save_refined(context, latents, strength)
        judge.show(refined_row, strength, contextlib.nullcontext(latents))
        done += 1
    judge.write(context.out)
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({f"{name}.chosen": row["strength"] for name, row in metrics["chosen"].items()})


def choose(
    context: StageContext,
    methods: dict[str, Method],
    renderer: Renderer,
    strengths: dict[str, tuple[float, ...]],
    vectors: dict[str, EditingVector],
) -> dict[str, dict[str, float]]:
    """For each method the least strength at which the guide calls the share `asked` of validation heads at rest
    smiling, or the one with the most where none does. Heads that a vector was learned from stay out, of all methods."""
    params, data = context.params.sweep, context.input("data")
    val = load_latents(context.input("encoder") / "latents.safetensors")["val"]
    attributes = load_attributes(data / "val.zip")[: len(val)]
    sources = ", ".join(vector.source for vector in vectors.values()).split(", ")
    learners = {int(source.removeprefix("val/")) for source in sources}
    neutral = [i for i, head in enumerate(attributes) if at_rest(head) and i not in learners]
    if not neutral:
        raise UserError("sweep: no embedded validation head at rest is left to choose on; raise encoder.val_images")
    guide, chosen = load_guide(context.input("judges")).to(context.device), {}
    for done, (name, method) in enumerate(methods.items()):
        context.run.progress(done, len(methods), "methods", f"choosing the strength of {name}")
        edit_at, shares = method(val[neutral]), []
        for strength in strengths[name]:
            pictures = renderer.pictures(edit_at(strength))
            smile = measure(guide.smile, pictures, device=context.device, batch=params.batch)
            shares.append(float((smile >= SMILE_THRESHOLD).double().mean()))
        enough = [index for index, share in enumerate(shares) if share >= params.asked]
        best = enough[0] if enough else max(range(len(shares)), key=shares.__getitem__)
        chosen[name] = {"strength": strengths[name][best], f"smiling_guide_val{len(neutral)}": round(shares[best], 6)}
        print(f"{name}: strength {strengths[name][best]:g}, {shares[best]:.0%} of {len(neutral)} validation heads")
    return chosen


class Sweep:
    """Judges edited test heads, a strength at a time, and keeps what was said of each."""

    def __init__(
        self, context: StageContext, judges: Judges, heads: SmileHeads, w_plus: Tensor, renderer: Renderer
    ) -> None:
        self.judges, self.heads, self.renderer, self.run = judges, heads, renderer, context.run
        self.work = context.work
        self.params, self.seed, self.device = context.params.sweep, context.params.seed, context.device
        self.reconstruction = renderer.pictures(contextlib.nullcontext(w_plus))
        self.masks = predict_masks(renderer.G, renderer.S, w_plus)
        self.identity = self.seen_by(judges.identity, heads.photos)  # [N, D]
        references = torch.as_tensor(load_images(context.input("data") / "reference.zip"))
        self.references = self.seen_by(judges.features, references)  # [M, D]
        subsets = dict(subsets=self.params.kid_subsets, seed=self.seed)
        self.among = reference_sums(self.references, len(heads.photos), **subsets)
        self.strengths: dict[str, list[float]] = {}
        self.per_head: dict[str, list[Tensor]] = {}
        self.curves: dict[str, list[dict[str, float]]] = {}

    def seen_by(self, function, pictures: Tensor) -> Tensor:
        return measure(function, pictures, device=self.device, batch=self.params.batch)

    def show(self, name: str, strength: float, edited: AbstractContextManager[Tensor]) -> None:
        """Judge a row at a strength, plain and pasted back; what a killed run had judged is taken up."""
        path = self.work / "judged" / f"{name}_{strength:g}.safetensors"
        if not path.exists():
            plain, pasted, _ = self.renderer.both(edited, self.heads.photos, self.masks)
            rows = {"plain": self._judge(plain, pasted=False), "pasted": self._judge(pasted, pasted=True)}
            save_tensors(path, {f"{row}.{key}": value for row, said in rows.items() for key, value in said.items()})
        kept, _ = load_tensors(path)
        for row, suffix in (("plain", ""), ("pasted", PASTED)):
            said = {key.removeprefix(f"{row}."): value for key, value in kept.items() if key.startswith(f"{row}.")}
            self._keep(name + suffix, strength, said)

    def _judge(self, pictures: Tensor, *, pasted: bool) -> dict[str, Tensor]:
        """What the judges say of pictures, uint8 [N, 3, H, W]; float64."""
        x = to_float(pictures)
        said = {
            "smile": self.seen_by(self.judges.smile_probabilities, pictures),  # [N, 3]
            "identity": cosines(self.seen_by(self.judges.identity, pictures), self.identity).diagonal(),  # [N]
            "leak_to_input": outside_error(x, to_float(self.heads.photos), self.heads.region).double(),  # [N]
        }
        if not pasted:
            leak = outside_error(x, to_float(self.reconstruction), self.heads.region)
            said["leak_to_reconstruction"] = leak.double()
        features = self.seen_by(self.judges.features, pictures)
        kid = kernel_distance(
            features, self.references, subsets=self.params.kid_subsets, seed=self.seed, among=self.among
        )
        return said | {"kid": torch.tensor([kid], dtype=torch.float64)}

    def _keep(self, name: str, strength: float, said: dict[str, Tensor]) -> None:
        """Per-head figures for heads.safetensors, their means for the curves and the record."""
        kid = float(said.pop("kid"))
        for key in PER_HEAD:
            self.per_head.setdefault(f"{name}.{key}", []).append(said[key].float())
        called = (100 * (said["smile"] >= SMILE_THRESHOLD).double().mean(0)).tolist()
        figures = {f"smiling_{judge}": share for judge, share in zip(SMILE_JUDGES, called, strict=True)}
        figures["identity_mobilefacenet"] = float(said["identity"].mean())
        figures |= {key: float(said[key].mean()) for key in sorted(said) if key.startswith("leak")}
        figures[f"kid{len(said['identity'])}_efflite0"] = kid
        row = {"strength": strength} | {key: round(value, DIGITS) for key, value in figures.items()}
        self.strengths.setdefault(name, []).append(strength)
        self.curves.setdefault(name, []).append(row)
        self.run.log_metrics({f"{name}.{key}": value for key, value in row.items()}, step=round(1000 * strength))

    def write(self, out: Path) -> None:
        """heads.safetensors, in float16, and curves/NAME.json."""
        tensors = {name: torch.stack(rows) for name, rows in self.per_head.items()}  # [S, N, ...]
        remedy = "run stage sweep again"
        save_halves(out / "heads.safetensors", tensors, {"strengths": self.strengths}, remedy=remedy)
        for name, rows in self.curves.items():
            write_json(out / "curves" / f"{name}.json", rows)


def save_refined(context: StageContext, w_plus: Tensor, strength: float) -> Tensor:
    """Write the latents that the table shows, in float16; returns what is read back."""
    remedy = "lower editing.refine.learning_rate and run stage sweep again"
    path = context.out / "refined.safetensors"
    return load_tensors(save_halves(path, {"w_plus": w_plus}, {"strength": strength}, remedy=remedy))[0][
        "w_plus"
    ].float()


def refined(
    context: StageContext,
    renderer: Renderer,
    w_plus: Tensor,
    vector: EditingVector,
    strength: float,
    report: Callable[[int, int], None],
) -> Tensor:
    """Latents of the vector at a strength after refinement; finished batches wait in the work folder."""
    params, refinement = context.params.sweep, context.params.editing.refine
    assets, work = context.input("assets"), context.work / f"{strength:g}"
    latents, milliseconds = refine_resumably(
        renderer.G,
        renderer.S,
        use_winograd(load_network("lpips_vgg", assets)).to(context.device),
        w_plus,
        vector,
        scale=strength,
        params=refinement,
        identity=None if not refinement.weights.identity else load_network("dlib_resnet", assets).to(context.device),
        batch=params.batch,
        work=work,
        device=context.device,
        on_batch=report,
    )
    if milliseconds is not None:
        context.run.log_metrics({"refine_ms_per_head": milliseconds}, step=round(1000 * strength))
    return latents
