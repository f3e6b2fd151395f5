"""Stage `sweep`: edits the test heads by every method at every strength, and keeps what the judges say of each head."""

from collections.abc import Callable

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.benchmark.methods import CONDITIONAL, INTERFACEGAN, LOCALEDITING, Method, load_methods
from editgan.benchmark.smile import (
    EDITGAN,
    RECONSTRUCTION,
    SmileHeads,
    load_heads,
    refine_resumably,
    refined_name,
    synthesise,
)
from editgan.data.archive import load_attributes, load_images
from editgan.editing.vectors import EditingVector, load_vector
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.images import to_float
from editgan.judges import SMILE_JUDGES, Judges, load_guide, load_judges
from editgan.judges.quality import SMILE_THRESHOLD, cosines, measure
from editgan.metrics import kernel_distance, outside_error
from editgan.segmentation.ensemble import load_segmentation
from editgan.stage import StageContext
from editgan.weights import load_tensors, save_halves, save_tensors, write_json

DIGITS = 6


def run(context: StageContext) -> None:
    """Write heads.safetensors (what judges say of each head), curves/METHOD.json (means), metrics.json (the chosen
    strengths) and refined.safetensors (latents of the vector at its chosen strength after refinement)."""
    params, data = context.params.sweep, context.input("data")
    G = load_generator(context.input("generator") / "G_ema.safetensors", context.device)
    vector = load_vector(context.input("editing") / "vectors" / f"{params.vector}.safetensors")
    methods = load_methods(context.root / "outputs", G, vector, batch=params.batch, device=context.device)
    strengths = {
        EDITGAN: params.editgan,
        INTERFACEGAN: params.interfacegan,
        CONDITIONAL: params.interfacegan,
        LOCALEDITING: params.localediting,
    }
    metrics = {"chosen": choose(context, methods, strengths, vector)}

    heads = load_heads(data)
    w_plus = load_latents(context.input("encoder") / "latents.safetensors")["test"]
    judges = load_judges(context.input("assets"), context.input("judges"), context.device)
    judge = Sweep(context, judges, heads, synthesise(G, w_plus, batch=params.batch, device=context.device))
    steps = context.params.editing.refine.steps
    chosen = metrics["chosen"][EDITGAN]["strength"]
    to_refine = tuple(sorted({*params.refined, chosen}))
    total = sum(map(len, strengths.values())) + len(to_refine)
    tensors, curves, done = {}, {}, 0
    for name, method in methods.items():
        rows = []
        for strength in strengths[name]:
            context.run.progress(done, total, "sets of heads", f"{name} at {strength:g}")
            rows.append(judge(method(w_plus, strength)))
            done += 1
        keep(tensors, curves, name, strengths[name], rows)
    rows = []
    for strength in to_refine:

        def report(heads: int, count: int, done=done, strength=strength) -> None:
            context.run.progress(done + heads / count, total, "sets of heads", f"refining {strength:g}")

        latents = refined(context, G, w_plus, vector, strength, report)
        if strength == chosen:
            latents = save_refined(context, latents, chosen)
        rows.append(judge(synthesise(G, latents, batch=params.batch, device=context.device)))
        done += 1
    keep(tensors, curves, refined_name(steps), to_refine, rows)
    reconstruction = judge(judge.reconstruction)
    keep(tensors, curves, RECONSTRUCTION, (0.0,), [reconstruction])

    save_tensors(context.out / "heads.safetensors", tensors, {"strengths": {n: list(v) for n, v in curves.items()}})
    for name, row in curves.items():
        write_json(context.out / "curves" / f"{name}.json", list(row.values()))
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({f"{name}.chosen": row["strength"] for name, row in metrics["chosen"].items()})
    for name, row in curves.items():
        for strength, figures in row.items():
            context.run.log_metrics({f"{name}.{key}": value for key, value in figures.items()}, step=strength)


def choose(
    context: StageContext, methods: dict[str, Method], strengths: dict[str, tuple[float, ...]], vector: EditingVector
) -> dict[str, dict[str, float]]:
    """For each method the least strength at which the guide calls the share `asked` of neutral validation heads
    smiling, or the one with the most where none does. Heads that the vector was learned from stay out."""
    params, data = context.params.sweep, context.input("data")
    val = load_latents(context.input("encoder") / "latents.safetensors")["val"]
    attributes = load_attributes(data / "val.zip")[: len(val)]
    learners = {int(source.removeprefix("val/")) for source in vector.source.split(", ")}
    neutral = [i for i, head in enumerate(attributes) if head["smile"] == 0 and i not in learners]
    if not neutral:
        raise UserError("sweep: no neutral embedded validation head to choose on; raise encoder.val_images")
    guide, chosen = load_guide(context.input("judges")).to(context.device), {}
    for name, method in methods.items():
        shares = []
        for strength in strengths[name]:
            smile = measure(guide.smile, method(val[neutral], strength), device=context.device, batch=params.batch)
            shares.append(float((smile >= SMILE_THRESHOLD).double().mean()))
        enough = [index for index, share in enumerate(shares) if share >= params.asked]
        best = enough[0] if enough else max(range(len(shares)), key=shares.__getitem__)
        chosen[name] = {"strength": strengths[name][best], f"smiling_guide_val{len(neutral)}": round(shares[best], 6)}
        print(f"{name}: strength {strengths[name][best]:g}, {shares[best]:.0%} of {len(neutral)} validation heads")
    return chosen


class Sweep:
    """Judges pictures of the test heads, a strength at a time."""

    def __init__(self, context: StageContext, judges: Judges, heads: SmileHeads, reconstruction: Tensor) -> None:
        self.judges, self.heads, self.reconstruction = judges, heads, reconstruction
        self.params, self.seed, self.device = context.params.sweep, context.params.seed, context.device
        self.photos = self.seen_by(judges.identity, heads.photos)  # [N, D]
        references = torch.as_tensor(load_images(context.input("data") / "reference.zip"))
        self.references = self.seen_by(judges.features, references)  # [M, D]

    def seen_by(self, function, pictures: Tensor) -> Tensor:
        return measure(function, pictures, device=self.device, batch=self.params.batch)

    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """smile [N, 3], identity [N], leak [N] and kid [] of pictures, uint8 [N, 3, H, W]."""
        identity = cosines(self.seen_by(self.judges.identity, pictures), self.photos).diagonal()
        leak = outside_error(to_float(pictures), to_float(self.reconstruction), self.heads.region)
        features = self.seen_by(self.judges.features, pictures)
        kid = kernel_distance(features, self.references, subsets=self.params.kid_subsets, seed=self.seed)
        smile = self.seen_by(self.judges.smile_probabilities, pictures)
        return {"smile": smile, "identity": identity, "leak": leak, "kid": torch.tensor(kid)}


def keep(
    tensors: dict[str, Tensor],
    curves: dict[str, dict[float, dict[str, float]]],
    name: str,
    strengths: tuple[float, ...],
    rows: list[dict[str, Tensor]],
) -> None:
    """Per-head figures of a method into `tensors`, their means into `curves`."""
    for key in ("smile", "identity", "leak"):
        tensors[f"{name}.{key}"] = torch.stack([row[key] for row in rows]).float()  # [S, N, ...]
    count = rows[0]["identity"].shape[0]
    curves[name] = {}
    for strength, row in zip(strengths, rows, strict=True):
        called = (100 * (row["smile"] >= SMILE_THRESHOLD).double().mean(0)).tolist()
        curves[name][strength] = {
            "strength": strength,
            **{
                f"smiling_{judge}": round(float(share), DIGITS)
                for judge, share in zip(SMILE_JUDGES, called, strict=True)
            },
            "identity_mobilefacenet": round(float(row["identity"].double().mean()), DIGITS),
            "leak_to_reconstruction": round(float(row["leak"].double().mean()), DIGITS),
            f"kid{count}_efflite0": round(float(row["kid"]), DIGITS),
        }


def save_refined(context: StageContext, w_plus: Tensor, strength: float) -> Tensor:
    """Write the latents that the table shows, in float16; returns what is read back."""
    remedy = "lower editing.refine.learning_rate and run stage sweep again"
    path = context.out / "refined.safetensors"
    return load_tensors(save_halves(path, {"w_plus": w_plus}, {"strength": strength}, remedy=remedy))[0][
        "w_plus"
    ].float()


def refined(
    context: StageContext,
    G: Generator,
    w_plus: Tensor,
    vector: EditingVector,
    strength: float,
    report: Callable[[int, int], None],
) -> Tensor:
    """Latents of the vector at a strength after refinement; finished batches wait in the work folder."""
    params, refinement = context.params.sweep, context.params.editing.refine
    assets, work = context.input("assets"), context.work / f"{strength:g}"
    latents, milliseconds = refine_resumably(
        G,
        load_segmentation(context.input("segmentation") / "S.safetensors", context.device),
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
        context.run.log_metrics({"refine_ms_per_head": milliseconds}, step=strength)
    return latents
