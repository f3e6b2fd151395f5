"""Stage `sweep`: edits the test heads by every method at every strength, and keeps what the judges say of each head."""

import contextlib
import functools
import multiprocessing
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
    load_heads,
    refine_resumably,
    refined_name,
)
from editgan.benchmark.workers import processes_on
from editgan.config import Params
from editgan.data.archive import load_attributes, load_images
from editgan.editing.edits import at_rest
from editgan.editing.vectors import EditingVector
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.images import to_float
from editgan.judges import SMILE_JUDGES, load_guide, load_judges
from editgan.judges.quality import SMILE_THRESHOLD, cosines, measure
from editgan.metrics import kernel_distance, outside_error, reference_sums
from editgan.process import die_with_stage, keep_freed_memory
from editgan.segmentation.predict import predict_masks
from editgan.stage import StageContext
from editgan.tracking import offline_run
from editgan.weights import load_tensors, save_halves, save_tensors, write_json

DIGITS = 6
REFINE_AGAIN = "lower editing.refine.learning_rate and run stage sweep again"
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

    sets = [(name, strength) for name in methods for strength in strengths[name]]
    refined_row = refined_name(context.params.editing.refine.steps)
    sets += [(refined_row, strength) for strength in to_refine]
    judge_in_processes(context, [(RECONSTRUCTION, 0.0), *sets], chosen)
    judge = Sweep(context, chosen)
    judge.show(RECONSTRUCTION, 0.0)
    for done, (name, strength) in enumerate(sets):
        context.run.progress(done, len(sets), "sets of heads", f"{name} at {strength:g}")
        judge.show(name, strength)
    judge.write(context.out)
    latents = judge.refined(chosen)
    save_halves(context.out / "refined.safetensors", {"w_plus": latents}, {"strength": chosen}, remedy=REFINE_AGAIN)
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({f"{name}.chosen": row["strength"] for name, row in metrics["chosen"].items()})


def judge_in_processes(context: StageContext, sets: list[tuple[str, float]], chosen: float) -> None:
    """Judge sets of heads in one process a core, whose findings wait in the work folder; nothing to do on a GPU."""
    processes = processes_on(context.device)
    if processes == 1:
        return
    arguments = (context.params.model_dump(mode="json"), context.root, context.work, chosen)
    with multiprocessing.get_context("spawn").Pool(processes, _start, arguments) as pool:
        for done, _ in enumerate(pool.imap_unordered(_show, sets), start=1):
            context.run.progress(done, len(sets), "sets of heads", f"judged by {processes} processes")


_here: dict[str, "Sweep"] = {}  # of such a process


def _start(values: dict, root: Path, work: Path, chosen: float) -> None:
    die_with_stage()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    params = Params.model_validate(values)
    context = StageContext(
        name="sweep", params=params, root=root, out=work, work=work, run=offline_run(), device=torch.device("cpu")
    )
    _here["sweep"] = Sweep(context, chosen)


def _show(one: tuple[str, float]) -> None:
    _here["sweep"].show(*one)


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

    def __init__(self, context: StageContext, chosen: float) -> None:
        self.context, self.chosen = context, chosen
        self.work, self.run, self.seed, self.device = context.work, context.run, context.params.seed, context.device
        self.params, refinement = context.params.sweep, context.params.editing.refine
        self.refined_row = refined_name(refinement.steps)
        self.vectors, self.methods, self.renderer = load_methods(
            context.root / "outputs",
            vector=self.params.vector,
            plus=self.params.plus_vector,
            batch=self.params.batch,
            device=context.device,
        )
        self.w_plus = load_latents(context.input("encoder") / "latents.safetensors")["test"]
        self.judges = load_judges(context.input("assets"), context.input("judges"), context.device)
        self.heads = load_heads(context.input("data"))
        self.strengths: dict[str, list[float]] = {}
        self.per_head: dict[str, list[Tensor]] = {}
        self.curves: dict[str, list[dict[str, float]]] = {}

    @functools.cached_property
    def reconstruction(self) -> Tensor:
        return self.renderer.pictures(contextlib.nullcontext(self.w_plus))

    @functools.cached_property
    def masks(self) -> Tensor:
        return predict_masks(self.renderer.G, self.renderer.S, self.w_plus)

    @functools.cached_property
    def identity(self) -> Tensor:
        return self.seen_by(self.judges.identity, self.heads.photos)  # [N, D]

    @functools.cached_property
    def references(self) -> Tensor:
        pictures = torch.as_tensor(load_images(self.context.input("data") / "reference.zip"))
        return self.seen_by(self.judges.features, pictures)  # [M, D]

    @functools.cached_property
    def among(self) -> Tensor:
        subsets = dict(subsets=self.params.kid_subsets, seed=self.seed)
        return reference_sums(self.references, len(self.heads.photos), **subsets)

    def seen_by(self, function, pictures: Tensor) -> Tensor:
        return measure(function, pictures, device=self.device, batch=self.params.batch)

    def edited(self, name: str, strength: float) -> AbstractContextManager[Tensor]:
        """What G makes the heads of, within: latents of a method at a strength, the reconstruction's, or refined ones.

        Refined at the chosen strength they are rounded to float16, as they are kept.
        """
        if name == RECONSTRUCTION:
            return contextlib.nullcontext(self.w_plus)
        if name != self.refined_row:
            return self.methods[name](self.w_plus)(strength)
        latents = self.refined(strength)
        return contextlib.nullcontext(latents.half().float() if strength == self.chosen else latents)

    def show(self, name: str, strength: float) -> None:
        """Judge a row at a strength, plain and pasted back; what a killed run or another process judged is taken up."""
        path = self.work / "judged" / f"{name}_{strength:g}.safetensors"
        if not path.exists():
            edited = self.edited(name, strength)
            plain, pasted, _ = self.renderer.both(edited, self.heads.photos, self.masks)
            rows = {"plain": self._judge(plain, pasted=False), "pasted": self._judge(pasted, pasted=True)}
            save_tensors(path, {f"{row}.{key}": value for row, said in rows.items() for key, value in said.items()})
        kept, _ = load_tensors(path)
        for row, suffix in (("plain", ""), ("pasted", PASTED)):
            said = {key.removeprefix(f"{row}."): value for key, value in kept.items() if key.startswith(f"{row}.")}
            self._keep(name + suffix, strength, said)

    def refined(self, strength: float) -> Tensor:
        """Latents of the vector at a strength after refinement; finished batches wait in the work folder."""
        refinement, assets = self.context.params.editing.refine, self.context.input("assets")
        latents, milliseconds = refine_resumably(
            self.renderer.G,
            self.renderer.S,
            use_winograd(load_network("lpips_vgg", assets)).to(self.device),
            self.w_plus,
            self.vectors[EDITGAN],
            scale=strength,
            params=refinement,
            identity=None if not refinement.weights.identity else load_network("dlib_resnet", assets).to(self.device),
            batch=self.params.batch,
            work=self.work / f"{strength:g}",
            device=self.device,
            on_batch=lambda done, total: None,
        )
        if milliseconds is not None:
            self.run.log_metrics({"refine_ms_per_head": milliseconds}, step=round(1000 * strength))
        return latents

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
