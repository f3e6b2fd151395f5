"""Stage `editing`: learn the editing vectors of `edits.yaml`, each from a few validation heads, and try them on others.

The predicted mask of a head is changed as an edit describes, with parts of labelled heads where it needs a donor: these
are the few whose masks are paid for anyway (masks of the training split belong to the judges). delta_w_plus is then
optimised towards that mask, as for a user who paints it by hand. The vector is the mean of what its heads learned: what
is a head's own is averaged away (params: `heads`; 1 is the paper's way).
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
from editgan.editing.edits import Edit, load_edits, suitable_heads, target_mask
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
from editgan.runtime.stage import StageContext
from editgan.segmentation.ensemble import SegmentationEnsemble, load_segmentation
from editgan.segmentation.predict import predict_masks
from editgan.weights import write_json

PICTURE_ROWS = 2  # of a picture: a head that the vector was learned from, and the first other that it is tried on
PREVIEW_HEADS = 4  # validation heads that each vector is tried on at the most
PREVIEW_SCALES = (1.0, 2.0)  # strengths shown in the pictures, 1 is the vector's own
SEEN = 0.25  # the parts cover at least this share of the pixels that they have on a typical labelled head


@dataclass(frozen=True)
class Lesson:
    """What one vector is learned from."""

    name: str
    edit: Edit
    sources: list[int]  # validation heads, K of them
    others: list[int]  # validation heads to try it on
    before: np.ndarray  # what S sees on the sources  # uint8 [K, H, W]
    targets: np.ndarray  # the same, edited  # uint8 [K, H, W]
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
        predict_masks(G, S, val).numpy(),
        load_attributes(data / "val.zip")[: len(val)],
        class_names=S.class_names,
        donors=donors,
        donor_attributes=donor_attributes[:labelled],
        folder=context.root,
        heads=params.heads,
        preview_heads=PREVIEW_HEADS,
    )
    if not lessons:
        raise UserError(
            f"none of the {len(edits)} edits changes the mask of any of the {len(val)} embedded validation heads: the "
            "segmentation sees no parts; run the stages encoder and segmentation again"
        )
    metrics = {}
    for index, lesson in enumerate(lessons):
        start = val[lesson.sources]  # [K, num_ws, w_dim]
        learned, region = learn(context, G, S, lpips, start, lesson, identity)
        vector = EditingVector(
            name=lesson.name,
            region_classes=lesson.edit.region,
            source=", ".join(f"val/{source:05d}" for source in lesson.sources),
            delta_w_plus=(learned.w_plus - start).mean(0).cpu(),
            scale=lesson.edit.strength,
            target=lesson.origin,
        )
        save_vector(context.out / "vectors" / f"{lesson.name}.safetensors", vector)
        heads = torch.tensor([lesson.sources[0], *lesson.others])
        tried, columns = preview(G, S, lpips, val[heads], vector, params, identity, palette)
        columns["target"][0] = colourize(torch.as_tensor(lesson.targets[:1]), palette)[0]
        seen = predict_masks(G, S, apply_vector(start, vector, 1.0)).to(device)
        followed = agreement(seen, torch.as_tensor(lesson.targets, device=device), region)
        metrics[lesson.name] = learning_metrics(learned, vector, region) | {"followed_vector": followed} | tried
        shown = {caption: images[:PICTURE_ROWS] for caption, images in columns.items()}
        path = save_png(context.out / "pictures" / f"{lesson.name}.png", labelled_grid(shown))
        context.run.log_image(path, f"edits/{lesson.name}.png")
        context.run.progress(index + 1, len(lessons), "edits", f"learned and tried {lesson.name}")
        row = metrics[lesson.name]
        print(
            f"{lesson.name}: from {vector.source}; of their regions {row['followed_start']:.0%} are as painted before, "
            f"{row['followed_best']:.0%} after optimising each head, {row['followed_vector']:.0%} with the vector"
        )
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({f"{name}/{key}": value for name, row in metrics.items() for key, value in row.items()})


def plan(
    edits: dict[str, Edit],
    masks: np.ndarray,
    attributes: Sequence[dict],
    *,
    class_names: Sequence[str],
    donors: np.ndarray,
    donor_attributes: Sequence[dict],
    folder: Path,
    heads: int,
    preview_heads: int,
) -> list[Lesson]:
    """Which heads each edit is learned from, and what their masks should become.

    Of the heads that fit the edit, the first `heads` (or what the edit says) on which S sees enough of the parts (which
    have enough of them afterwards, where the edit adds them), and at most half of those that fit, so that others are
    left to try it on; where there is none (networks trained for minutes), the one with the most. An edit that changes
    no head's mask is left out, and a line says so.

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
        wanted = min(described.heads or heads, max(1, len(suited) // 2))
        options = dict(class_names=class_names, donors=donors, donor_attributes=donor_attributes, folder=folder)
        taken, best = [], None  # (pixels seen, head, target, origin of its parts)
        for head in suited:
            target, origin = target_mask(described, masks[head], **options)
            if (target == masks[head]).all():
                continue
            found = (int(np.isin(target if described.adds else masks[head], ids).sum()), head, target, origin)
            if best is None or found[0] > best[0]:
                best = found
            if found[0] >= enough:
                taken.append(found)
            if len(taken) == wanted:
                break
        if best is None:
            print(f"{name}: no vector, since it changes the mask of none of the {len(suited)} heads that fit it")
            continue
        if not taken:
            print(f"{name}: S sees {best[0]} pixels of its parts at the most; expect little from this vector")
            taken = [best]
        _, sources, targets, origins = zip(*taken, strict=True)
        others = [head for head in suited if head not in sources][:preview_heads]
        before = masks[list(sources)]
        lessons.append(Lesson(name, described, list(sources), others, before, np.stack(targets), origins[0]))
    return lessons


def learn(
    context: StageContext,
    G: Generator,
    S: SegmentationEnsemble,
    lpips: nn.Module,
    w_plus: Tensor,
    lesson: Lesson,
    identity: nn.Module | None,
) -> tuple[Optimized, Tensor]:
    """The heads of a lesson, latents [K, num_ws, w_dim], each optimised as if alone; the regions, bool [K, H, W]."""
    params = context.params.editing
    before, targets = (torch.as_tensor(masks, device=w_plus.device) for masks in (lesson.before, lesson.targets))
    region = edit_region(before, targets, S.class_ids(lesson.edit.region))  # [K, H, W]

    def report(step: int, steps: int, loss: EditLoss) -> None:
        means = {f"{lesson.name}/{name}": float(getattr(loss, name).mean()) for name in ("total", "ce", "lpips")}
        context.run.log_metrics(means, step)

    learned = edit(
        G,
        S,
        lpips,
        w_plus,
        targets,
        region,
        weights=params.edit.weights,
        steps=params.edit.steps,
        lr=params.edit.lr,
        shared_rows=params.shared_rows,
        identity=identity,
        report=report,
    )
    return learned, region


def agreement(masks: Tensor, targets: Tensor, region: Tensor) -> float:
    """Share of each region's pixels that have the wanted label, mean over heads; masks [K, H, W], region bool."""
    return float((((masks == targets) & region).sum((1, 2)) / region.sum((1, 2)).clamp(min=1)).double().mean())


def learning_metrics(learned: Optimized, vector: EditingVector, region: Tensor) -> dict[str, float]:
    """How the optimisation went for each head that a vector is learned from, alone: means over these heads."""
    names = ("total", "ce", "followed", "lpips", "mse")
    return {
        **{f"{name}_start": float(getattr(learned.start, name).mean()) for name in names},
        **{f"{name}_best": float(getattr(learned.best, name).mean()) for name in names},
        "heads": len(region),
        "region_pixels": int(region.sum()) / len(region),
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
    """Try a vector on heads, of which the first is one that it was learned from: (metrics of the others, columns).

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
            lr=params.refine.lr,
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
            if name == "refined":  # of what the vector alone changes, which is the target here
                metrics[f"refined_followed_val{count}"] = float(loss.followed[1:].mean())

    def image(latents: Tensor) -> Tensor:
        return to_uint8(G.synthesis(latents, noise_mode="const")).cpu()

    def mask(latents: Tensor) -> Tensor:
        images, features = G.synthesis_features(latents, noise_mode="const")
        return colourize(S.predict(features, images.shape[-1]).cpu(), palette)

    columns = {"embedded": image(w_plus), "mask": mask(w_plus), "target": colourize(objective.masks.cpu(), palette)}
    for scale in PREVIEW_SCALES:
        columns[f"x{scale:g}"] = image(apply_vector(w_plus, vector, scale * vector.scale))
    columns |= {f"refined {params.refine.steps}": image(refined), "its mask": mask(refined)}
    return metrics, columns
