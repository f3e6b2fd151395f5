"""Stage `editing`: learn the editing vectors of `edits.yaml`, each from one validation head, and try them on others.

The predicted mask of a head is changed as an edit describes, with parts of labelled heads where it needs a donor: these
are the few whose masks are paid for anyway (masks of the training split belong to the judges). delta_w_plus is then
optimised towards that mask, as for a user who paints it by hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.data.archive import load_attributes, load_classes, load_masks
from editgan.editing.edits import Edit, fits, load_edits, target_mask, turned
from editgan.editing.masks import edit_region
from editgan.editing.objective import EditLoss
from editgan.editing.optimize import Optimized, edit
from editgan.editing.params import EditingParams
from editgan.editing.refine import refine, refinement_objective
from editgan.editing.vectors import EditingVector, apply_vector, save_vector
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.images import colourize, labelled_grid, save_png, to_uint8
from editgan.segmentation.ensemble import SegmentationEnsemble, load_segmentation
from editgan.stage import StageContext
from editgan.weights import write_json

SEEN = 0.25  # the parts cover at least this share of the pixels that they have on a typical labelled head
CLOSED_EYES = 0.5  # of 0 open to 1 closed
BATCH = 16


@dataclass(frozen=True)
class Lesson:
    """What one vector is learned from."""

    name: str
    edit: Edit
    source: int  # validation head
    others: list[int]  # validation heads to try it on
    target: np.ndarray  # the edited mask of the source  # uint8 [H, W]
    origin: str  # where parts of the target came from


def run(context: StageContext) -> None:
    """outputs/editing: vectors/EDIT.safetensors and pictures/EDIT.png for every edit, metrics.json."""
    params, device, data = context.params.editing, context.device, context.input("data")
    G = load_generator(context.input("generator") / "G_ema.safetensors", device)
    S = load_segmentation(context.input("segmentation") / "S.safetensors", device)
    lpips = use_winograd(load_network("lpips_vgg", context.input("assets"))).to(device)
    val = load_latents(context.input("encoder") / "latents.safetensors")["val"].to(device)  # [N, num_ws, w_dim]
    with_identity = params.edit.weights.identity > 0 or params.refine.weights.identity > 0
    identity = load_network("dlib_resnet", context.input("assets")).to(device) if with_identity else None
    palette = torch.as_tensor(load_classes(data / "classes.json").palette)  # [K, 3]

    edits = load_edits(context.root / "edits.yaml", S.class_names)
    labelled = context.params.segmentation.labelled_images
    donors, donor_attributes = load_masks(data / "pool.zip", range(labelled)), load_attributes(data / "pool.zip")
    lessons = plan(
        edits,
        predict_masks(G, S, val),
        load_attributes(data / "val.zip")[: len(val)],
        class_names=S.class_names,
        donors=donors,
        donor_attributes=donor_attributes[:labelled],
        folder=context.root,
        preview_heads=params.preview_heads,
    )
    if not lessons:
        raise UserError(
            f"none of the {len(edits)} edits changes the mask of any of the {len(val)} embedded validation heads: the "
            "segmentation sees no parts; run the stages encoder and segmentation again"
        )
    learned, region = learn(context, G, S, lpips, val, lessons, identity)

    metrics = {}
    for index, lesson in enumerate(lessons):
        vector = EditingVector(
            name=lesson.name,
            region_classes=lesson.edit.region,
            source=f"val/{lesson.source:05d}",
            delta_w_plus=(learned.w_plus[index] - val[lesson.source]).cpu(),
            scale=lesson.edit.strength,
            target=lesson.origin,
        )
        save_vector(context.out / "vectors" / f"{lesson.name}.safetensors", vector)
        heads = torch.tensor([lesson.source, *lesson.others])
        tried, columns = preview(G, S, lpips, val[heads], vector, params, identity, palette)
        columns["target"][0] = colourize(torch.as_tensor(lesson.target)[None], palette)[0]
        metrics[lesson.name] = learning_metrics(learned, index, vector, region[index]) | tried
        path = save_png(context.out / "pictures" / f"{lesson.name}.png", labelled_grid(columns))
        context.run.log_image(path, f"edits/{lesson.name}.png")
        context.run.progress(index + 1, len(lessons), "edits", f"tried {lesson.name}")
        row = metrics[lesson.name]
        print(
            f"{lesson.name}: from {vector.source}, {row['followed_start']:.0%} as painted before, "
            f"{row['followed_best']:.0%} after"
        )
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({f"{name}/{key}": value for name, row in metrics.items() for key, value in row.items()})


@torch.no_grad()
def predict_masks(G: Generator, S: SegmentationEnsemble, w_plus: Tensor) -> np.ndarray:
    """What S sees on the images of latents [N, num_ws, w_dim].  # uint8 [N, H, W]"""
    parts = []
    for chunk in w_plus.split(BATCH):
        images, features = G.synthesis_features(chunk, noise_mode="const")
        parts.append(S.predict(features, images.shape[-1]).to(torch.uint8).cpu())
    return torch.cat(parts).numpy()


def plan(
    edits: dict[str, Edit],
    masks: np.ndarray,
    attributes: Sequence[dict],
    *,
    class_names: Sequence[str],
    donors: np.ndarray,
    donor_attributes: Sequence[dict],
    folder: Path,
    preview_heads: int,
) -> list[Lesson]:
    """Which head each edit is learned from, and what its mask should become.

    Of the heads that fit the edit, the first on which S sees enough of the parts (which has enough of them afterwards,
    where the edit adds them); where there is none (networks trained for minutes), the one with the most. An edit that
    changes no head's mask is left out, and a line says so.

    Args:
        masks: predicted, of the embedded validation heads  # uint8 [N, H, W]
        attributes: of these heads
    """
    lessons = []
    for name, described in edits.items():
        ids = [class_names.index(part) for part in described.region]
        sizes = np.isin(donors, ids).sum(axis=(1, 2))  # [N]
        enough = SEEN * float(np.median(sizes[sizes > 0])) if sizes.any() else 0.0
        suited = suitable_heads(described, attributes)
        options = dict(class_names=class_names, donors=donors, donor_attributes=donor_attributes, folder=folder)
        best = None
        for head in suited:
            target, origin = target_mask(described, masks[head], **options)
            if (target == masks[head]).all():
                continue
            seen = int(np.isin(target if described.adds else masks[head], ids).sum())
            if best is None or seen > best[0]:
                best = (seen, head, target, origin)
            if seen >= enough:
                break
        if best is None:
            print(f"{name}: no vector, since it changes the mask of none of the {len(suited)} heads that fit it")
            continue
        seen, head, target, origin = best
        if seen < enough:
            print(f"{name}: S sees {seen} pixels of its parts at the most; expect little from this vector")
        others = [one for one in suited if one != head][:preview_heads]
        lessons.append(Lesson(name, described, head, others, target, origin))
    return lessons


def suitable_heads(described: Edit, attributes: Sequence[dict]) -> list[int]:
    """Heads that an edit can be learned from: those without beard first, then the most frontal."""
    rest = ("smile", "mouth_open", "frown")
    found = [
        index
        for index, head in enumerate(attributes)
        if (described.rest == "any" or all(head[unit] == 0 for unit in rest) and head["blink"] < CLOSED_EYES)
        and all(fits(head, rule) for rule in described.learn_from)
    ]
    return sorted(found, key=lambda index: (attributes[index]["beard"] != "none", turned(attributes[index])))


def learn(
    context: StageContext,
    G: Generator,
    S: SegmentationEnsemble,
    lpips: nn.Module,
    val: Tensor,
    lessons: Sequence[Lesson],
    identity: nn.Module | None,
) -> tuple[Optimized, Tensor]:
    """All lessons as one batch, each as if alone; and their regions, bool [N, H, W]."""
    params = context.params.editing
    w_plus = val[[lesson.source for lesson in lessons]]  # [N, num_ws, w_dim]
    before = torch.as_tensor(predict_masks(G, S, w_plus), device=w_plus.device)
    targets = torch.as_tensor(np.stack([lesson.target for lesson in lessons]), device=w_plus.device)
    region = torch.cat(
        [
            edit_region(before[i : i + 1], targets[i : i + 1], S.class_ids(lesson.edit.region))
            for i, lesson in enumerate(lessons)
        ]
    )  # [N, H, W]

    def report(step: int, steps: int, loss: EditLoss) -> None:
        means = {f"edit/{name}": float(getattr(loss, name).mean()) for name in ("total", "ce", "lpips")}
        context.run.log_metrics(means, step)
        context.run.progress(step, steps, "step", f"{len(lessons)} edits, cross-entropy {means['edit/ce']:.3f}")

    learned = edit(
        G,
        S,
        lpips,
        w_plus,
        targets,
        region,
        weights=params.edit.weights,
        steps=params.edit.steps,
        learning_rate=params.edit.learning_rate,
        shared_rows=params.shared_rows,
        identity=identity,
        report=report,
    )
    return learned, region


def learning_metrics(learned: Optimized, index: int, vector: EditingVector, region: Tensor) -> dict[str, float]:
    """How the optimisation of one vector of the batch went."""
    names = ("total", "ce", "followed", "lpips", "mse")
    return {
        **{f"{name}_start": float(getattr(learned.start, name)[index]) for name in names},
        **{f"{name}_best": float(getattr(learned.best, name)[index]) for name in names},
        "region_pixels": int(region.sum()),
        "delta_w_plus_norm": float(vector.delta_w_plus.norm()),
    }


@torch.no_grad()
def preview(
    G: Generator,
    S: SegmentationEnsemble,
    lpips: nn.Module,
    w_plus: Tensor,
    vector: EditingVector,
    params: EditingParams,
    identity: nn.Module | None,
    palette: Tensor,
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Try a vector on heads, of which the first is the one it was learned from: (metrics of the others, columns).

    Where there are no others, there are no metrics. Leaks are differences outside the region between an edited image
    and the unedited one; LPIPS-VGG guides the edits itself, so these numbers serve development and are no verdict.
    """
    class_ids, count = S.class_ids(vector.region_classes), len(w_plus) - 1
    edited = apply_vector(w_plus, vector)
    with torch.enable_grad():
        refined = refine(
            G,
            S,
            lpips,
            w_plus,
            vector,
            steps=params.refine.steps,
            learning_rate=params.refine.learning_rate,
            weights=params.refine.weights,
            identity=identity,
        )
    objective = refinement_objective(G, S, lpips, w_plus, edited, class_ids)
    metrics = {}
    for name, latents in (("vector", edited), ("refined", refined)):
        loss = objective(latents)
        if count:
            metrics[f"{name}_leak_lpips_vgg_val{count}"] = float(loss.lpips[1:].mean())
            metrics[f"{name}_leak_mse_val{count}"] = float(loss.mse[1:].mean())
            metrics[f"{name}_followed_val{count}"] = float(loss.followed[1:].mean())

    def image(latents: Tensor) -> Tensor:
        return to_uint8(G.synthesis(latents, noise_mode="const")).cpu()

    def mask(latents: Tensor) -> Tensor:
        images, features = G.synthesis_features(latents, noise_mode="const")
        return colourize(S.predict(features, images.shape[-1]).cpu(), palette)

    columns = {"embedded": image(w_plus), "mask": mask(w_plus), "target": colourize(objective.masks.cpu(), palette)}
    for scale in params.preview_scales:
        columns[f"x{scale:g}"] = image(apply_vector(w_plus, vector, scale * vector.scale))
    columns |= {f"refined {params.refine.steps}": image(refined), "its mask": mask(refined)}
    return metrics, columns
