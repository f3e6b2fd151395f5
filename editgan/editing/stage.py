"""Stage `editing`: learn the editing vectors of `edits.yaml` on a few validation heads and test them on other heads.

The edit is applied to the predicted mask of a head. If the edit needs a donor, it is one of the labelled heads, whose
masks are available anyway; the masks of the training split are reserved for the judges. delta_w_plus is then optimised
towards the edited mask, as for a mask painted by hand. Vector NAME is the delta of one head, as in the paper: of the
head whose delta edits the others best. Vector NAME_mean is the mean of the deltas of several heads, which averages out
what is specific to one head.
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
from editgan.editing.edits import Edit, load_edits, suitable_pictures, target_mask
from editgan.editing.masks import edit_region
from editgan.editing.objective import EditLoss, EditObjective
from editgan.editing.optimize import Optimized, edit
from editgan.editing.params import EditingParams, ObjectiveWeights
from editgan.editing.refine import refine, refinement_objective
from editgan.editing.vectors import MEAN, EditingVector, apply_vector, save_vector
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.images import colourize, labelled_grid, save_png, to_uint8
from editgan.runtime.stage import StageContext
from editgan.segmentation.ensemble import SegmentationEnsemble, load_segmentation
from editgan.segmentation.predict import predict_masks
from editgan.weights import write_json

PICTURE_ROWS = 2  # a head that the vector was learned from, and the first held-out head
SEEN = 0.25  # a head is used if its parts have at least this share of their median area on the labelled heads
PREVIEW_HEADS = 4  # maximum number of held-out validation heads to test each vector on
PREVIEW_SCALES = (1.0, 2.0)  # strengths shown in the pictures, relative to the vector's default strength


@dataclass(frozen=True)
class Lesson:
    """The training data of one edit."""

    name: str
    edit: Edit
    sources: list[int]  # indices of K validation heads to learn from
    others: list[int]  # indices of held-out validation heads to test on
    before: np.ndarray  # S's masks of the sources  # uint8 [K, H, W]
    targets: np.ndarray  # these masks after the edit  # uint8 [K, H, W]
    origin: str  # source of the transplanted parts


def run(context: StageContext) -> None:
    """Write vectors/EDIT.safetensors, vectors/EDIT_mean.safetensors and pictures of both for every edit; metrics."""
    params, device, data = context.params.editing, context.device, context.input("data")
    G = load_generator(context.input("generator") / "G_ema.safetensors", device)
    S = load_segmentation(context.input("segmentation") / "S.safetensors", device)
    lpips = use_winograd(load_network("lpips_vgg", context.input("assets"))).to(device)
    val = load_latents(context.input("encoder") / "latents.safetensors")["val"].to(device)  # [N, num_ws, w_dim]
    with_identity = params.weights.identity > 0
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
        palette=palette.numpy(),
        donors=donors,
        donor_attributes=donor_attributes[:labelled],
        folder=context.root,
        heads=params.heads,
        preview_heads=PREVIEW_HEADS,
    )
    if not lessons:
        raise UserError(
            f"none of the {len(edits)} edits changes the mask of any of the {len(val)} embedded validation heads: the "
            "segmentation finds no parts; run the stages encoder and segmentation again"
        )
    metrics = {}
    for index, lesson in enumerate(lessons):
        start = val[lesson.sources]  # [K, num_ws, w_dim]
        learned, region = learn(context, G, S, lpips, start, lesson, identity)
        deltas = learned.w_plus - start  # [K, num_ws, w_dim]
        best = best_delta(G, S, lpips, start, deltas, lesson, region, params.weights, identity)
        for name, used in ((lesson.name, [best]), (f"{lesson.name}{MEAN}", range(len(deltas)))):
            vector = EditingVector(
                name=name,
                region_classes=lesson.edit.region,
                source=", ".join(f"val/{lesson.sources[head]:05d}" for head in used),
                delta_w_plus=deltas[list(used)].cpu().mean(0),
                scale=lesson.edit.strength,
                target=lesson.origin,
            )
            save_vector(context.out / "vectors" / f"{name}.safetensors", vector)
            heads = torch.tensor([lesson.sources[best], *lesson.others])
            tried, columns = preview(G, S, lpips, val[heads], vector, params, identity, palette)
            columns["target"][0] = colourize(torch.as_tensor(lesson.targets[best])[None], palette)[0]
            seen = predict_masks(G, S, apply_vector(start, vector, 1.0)).to(device)
            followed = agreement(seen, torch.as_tensor(lesson.targets, device=device), region)
            metrics[name] = learning_metrics(learned, vector, region) | {"followed_vector": followed} | tried
            shown = {caption: images[:PICTURE_ROWS] for caption, images in columns.items()}
            path = save_png(context.out / "pictures" / f"{name}.png", labelled_grid(shown))
            context.run.log_image(path, f"edits/{name}.png")
            row = metrics[name]
            print(
                f"{name}: learned from {vector.source}; region pixels with the target label: "
                f"{row['followed_start']:.0%} before, {row['followed_best']:.0%} after optimising each head, "
                f"{row['followed_vector']:.0%} with the vector"
            )
        context.run.progress(index + 1, len(lessons), "edits", f"learned and tested {lesson.name}")
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
    palette: np.ndarray | None = None,
    heads: int,
    preview_heads: int,
) -> list[Lesson]:
    """Choose the heads to learn each edit from, and compute their target masks.

    Takes the first `heads` heads that satisfy the edit's rules and on which S finds enough
    pixels of the parts; if the edit adds parts, they are counted on the target mask. At most half of the suitable heads
    are used, so that the others remain for testing. If no head has enough pixels, as with networks trained for minutes,
    the head with the most is used. An edit that changes no mask is skipped with a message.

    Args:
        masks: predicted masks of the embedded validation heads  # uint8 [N, H, W]
        attributes: of the same heads
    """
    lessons = []
    for name, described in edits.items():
        ids = [class_names.index(part) for part in described.region]
        sizes = np.isin(donors, ids).sum(axis=(1, 2))  # [N]
        enough = SEEN * float(np.median(sizes[sizes > 0])) if sizes.any() else 0.0
        suited = suitable_pictures(described, attributes)
        wanted = min(heads, max(1, len(suited) // 2))
        options = dict(class_names=class_names, donors=donors, donor_attributes=donor_attributes)
        options |= dict(folder=folder, palette=palette)
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
            print(f"{name}: skipped, because it changes the mask of none of its {len(suited)} suitable heads")
            continue
        if not taken:
            print(f"{name}: S finds at most {best[0]} pixels of its parts on any head; expect a weak vector")
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
    """Optimise each head of a lesson independently: latents [K, num_ws, w_dim] and regions, bool [K, H, W]."""
    params = context.params.editing
    before, targets = (torch.as_tensor(masks, device=w_plus.device) for masks in (lesson.before, lesson.targets))
    region = edit_region(before, targets, S.class_ids(lesson.edit.region))  # [K, H, W]

    def report(step: int, steps: int, loss: EditLoss, latents: Tensor) -> None:
        means = {f"{lesson.name}/{name}": float(getattr(loss, name).mean()) for name in ("total", "ce", "lpips")}
        context.run.log_metrics(means, step)

    learned = edit(
        G,
        S,
        lpips,
        w_plus,
        targets,
        region,
        weights=params.weights,
        steps=params.edit.steps,
        lr=params.edit.lr,
        identity=identity,
        report=report,
    )
    return learned, region


@torch.no_grad()
def best_delta(
    G: Generator,
    S: SegmentationEnsemble,
    lpips: nn.Module,
    w_plus: Tensor,
    deltas: Tensor,
    lesson: Lesson,
    region: Tensor,
    weights: ObjectiveWeights,
    identity: nn.Module | None,
) -> int:
    """The head whose delta edits the other heads best: with the lowest mean of their editing objectives.

    The paper learns a vector from one picture without saying which. Heads differ much in how well their delta suits
    others, and the objective knows without a judge.

    Args:
        w_plus, deltas: of the K heads of a lesson  # [K, num_ws, w_dim]
    """
    objective = EditObjective(
        generator=G,
        segmentation=S,
        lpips=lpips,
        weights=weights,
        images=G.synthesis(w_plus, noise_mode="const"),
        masks=torch.as_tensor(lesson.targets, device=w_plus.device),
        region=region,
        identity=identity,
    )
    losses = torch.stack([objective(w_plus + delta).total for delta in deltas])  # [K, K]: delta, head
    return int(losses.fill_diagonal_(0).sum(1).argmin())


def agreement(masks: Tensor, targets: Tensor, region: Tensor) -> float:
    """Share of the region's pixels with the target label, mean over heads; masks [K, H, W], region bool."""
    return float((((masks == targets) & region).sum((1, 2)) / region.sum((1, 2)).clamp(min=1)).double().mean())


def learning_metrics(learned: Optimized, vector: EditingVector, region: Tensor) -> dict[str, float]:
    """Losses at the start and at the best iterate of each head that a vector is learned from: means over heads."""
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
    """Test a vector on heads: (metrics on held-out heads, picture columns).

    The first head is one that the vector was learned from; the metrics leave it out. Without held-out heads there are
    no metrics. Leak is the difference between the edited and the unedited image outside the region. LPIPS-VGG is part
    of the training objective, so these metrics are for development only.
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
            weights=params.weights,
            identity=identity,
        )
    objective = refinement_objective(G, S, lpips, w_plus, edited, class_ids)
    metrics = {}
    for name, latents in (("vector", edited), ("refined", refined)):
        loss = objective(latents)
        if count:
            metrics[f"{name}_leak_lpips_vgg_val{count}"] = float(loss.lpips[1:].mean())
            metrics[f"{name}_leak_mse_val{count}"] = float(loss.mse[1:].mean())
            if name == "refined":  # agreement with the mask after the plain vector, which is the target here
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
