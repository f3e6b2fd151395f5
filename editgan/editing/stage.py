"""Stage `editing`: learn the smile vector from one neutral validation head and try it on others.

The predicted mask of the source head is given the smiling mouth of a labelled head, one of the few whose masks are paid
for anyway (masks of the training split belong to the judges), and delta_w_plus is optimised towards it, as a user would
who paints the smile by hand.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.data.archive import load_attributes, load_classes, load_masks
from editgan.editing.masks import EYES, MOUTH, edit_region, is_part, size_ratio, transplant_parts
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

SEEN_MOUTH = 0.25  # a source head shows a mouth of at least this share of the donor's pixels
CLOSED_EYES = 0.5  # of 0 open to 1 closed
BROAD_SMILE = 0.8  # the `smile` attribute of a head that may lend its mouth


def run(context: StageContext) -> None:
    """outputs/editing: vectors/smile.safetensors, metrics.json, edits.png."""
    params, device, data = context.params.editing, context.device, context.input("data")
    G = load_generator(context.input("generator") / "G_ema.safetensors", device)
    S = load_segmentation(context.input("segmentation") / "S.safetensors", device)
    lpips = use_winograd(load_network("lpips_vgg", context.input("assets"))).to(device)
    val = load_latents(context.input("encoder") / "latents.safetensors")["val"].to(device)  # [N, num_ws, w_dim]
    with_identity = params.edit.weights.identity > 0 or params.refine.weights.identity > 0
    identity = load_network("dlib_resnet", context.input("assets")).to(device) if with_identity else None

    palette = torch.as_tensor(load_classes(data / "classes.json").palette)  # [K, 3]
    mouth = S.class_ids(MOUTH)
    neutral = neutral_heads(load_attributes(data / "val.zip")[: len(val)])
    if len(neutral) < 2:
        raise UserError(
            f"{len(neutral)} of the {len(val)} embedded validation heads are neutral; one is needed to learn from and "
            "another to try the vector on: raise encoder.val_images"
        )
    labelled = context.params.segmentation.labelled_images
    donors = torch.as_tensor(load_masks(data / "pool.zip", range(labelled)))  # [N, H, W]
    donor = choose_donor(load_attributes(data / "pool.zip")[:labelled], donors, mouth, params.donor_index)
    enough = SEEN_MOUTH * int(is_part(donors[donor], mouth).sum())  # pixels
    source, mask = choose_source(G, S, val, neutral, mouth, enough, params.source_index)
    ours, theirs = mask.cpu().numpy(), donors[donor].numpy()
    eyes = [S.class_names.index(name) for name in EYES if name in S.class_names]
    smiling = transplant_parts(ours, theirs, mouth, size_ratio(ours, theirs, eyes) if len(eyes) == 2 else None)
    target = torch.as_tensor(smiling, device=device)  # [H, W]

    def report(step: int, steps: int, loss: EditLoss) -> None:
        context.run.log_metrics({f"edit/{name}": float(getattr(loss, name)) for name in ("total", "ce", "lpips")}, step)
        context.run.progress(step, steps, "step", f"cross-entropy {float(loss.ce):.3f}")

    region = edit_region(mask[None], target[None], mouth)  # [1, H, W]
    learned = edit(
        G,
        S,
        lpips,
        val[source : source + 1],
        target[None],
        region,
        weights=params.edit.weights,
        steps=params.edit.steps,
        learning_rate=params.edit.learning_rate,
        shared_rows=params.shared_rows,
        identity=identity,
        report=report,
    )
    vector = EditingVector(
        name="smile",
        region_classes=MOUTH,
        source=f"val/{source:05d}",
        delta_w_plus=(learned.w_plus[0] - val[source]).cpu(),
        target=f"mouth of pool/{donor:05d}",
    )
    save_vector(context.out / "vectors" / "smile.safetensors", vector)

    shown = torch.tensor([source, *[head for head in neutral if head != source][: params.preview_heads]])
    metrics, columns = preview(G, S, lpips, val[shown], vector, params, identity, palette)
    columns["target"][0] = colourize(target[None].cpu(), palette)[0]
    metrics = {"learned": learning_metrics(learned, vector, region), **metrics}
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({f"{group}/{key}": value for group, row in metrics.items() for key, value in row.items()})
    path = save_png(context.out / "edits.png", labelled_grid(columns))
    context.run.log_image(path, "edits.png")
    print(
        f"smile learned from {vector.source} with the {vector.target}: cross-entropy in the region "
        f"{float(learned.start.ce):.2f} -> {float(learned.best.ce):.2f}, {float(learned.best.followed):.0%} as painted"
    )


def neutral_heads(attributes: Sequence[dict]) -> list[int]:
    """Heads at rest (no smile, no frown, mouth closed, eyes open): those without beard first, then the most frontal."""
    rest = ("smile", "mouth_open", "frown")
    neutral = [
        i for i, head in enumerate(attributes) if all(head[unit] == 0 for unit in rest) and head["blink"] < CLOSED_EYES
    ]
    return sorted(neutral, key=lambda i: (attributes[i]["beard"] != "none", turned(attributes[i])))


def turned(attributes: dict) -> float:
    """How far a head is from looking straight at the camera, in radians."""
    return abs(attributes["yaw"]) + abs(attributes["pitch"]) + abs(attributes["roll"])


@torch.no_grad()
def choose_source(
    G: Generator,
    S: SegmentationEnsemble,
    w_plus: Tensor,
    candidates: Sequence[int],
    class_ids: Sequence[int],
    enough: float,
    index: int | None,
) -> tuple[int, Tensor]:
    """The head to learn from and its predicted mask: the given one, or the first candidate that S sees a mouth on.

    A mouth counts as seen from `enough` pixels on. Where S sees none on any candidate (networks trained for minutes),
    the first one is taken and the mouth is pasted where the donor has it.

    Raises:
        UserError: no such head.
    """
    if index is not None and index >= len(w_plus):
        raise UserError(f"editing.source_index is {index}, but only {len(w_plus)} validation heads are embedded")
    masks = {}
    for head in candidates if index is None else [index]:
        image, features = G.synthesis_features(w_plus[head : head + 1], noise_mode="const")
        masks[head] = S.predict(features, image.shape[-1])[0]  # [H, W]
        if is_part(masks[head], class_ids).sum() >= enough:
            return head, masks[head]
    head = next(iter(masks))
    print(f"editing: S sees hardly any mouth on validation head {head}; expect little from this vector")
    return head, masks[head]


def choose_donor(attributes: Sequence[dict], masks: Tensor, class_ids: Sequence[int], index: int | None) -> int:
    """The labelled head that lends its mouth: the given one, or of the broad smiles with open lips the most frontal.

    Raises:
        UserError: no such head, or none that smiles.
    """
    if index is not None:
        if index >= len(attributes):
            raise UserError(f"editing.donor_index is {index}, but only {len(attributes)} heads are labelled")
        return index
    smiles = [i for i, head in enumerate(attributes) if head["smile"] >= BROAD_SMILE]
    if not smiles:
        raise UserError(
            f"none of the {len(attributes)} labelled heads smiles broadly; label more heads (data.few_shot) or name "
            "one in editing.donor_index"
        )
    interior = class_ids[MOUTH.index("mouth_interior")]
    return min(smiles, key=lambda i: (not (masks[i] == interior).any(), turned(attributes[i])))


def learning_metrics(learned: Optimized, vector: EditingVector, region: Tensor) -> dict[str, float]:
    """How the optimisation of the vector went."""
    names = ("total", "ce", "followed", "lpips", "mse")
    return {
        **{f"{name}_start": float(getattr(learned.start, name)) for name in names},
        **{f"{name}_best": float(getattr(learned.best, name)) for name in names},
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
) -> tuple[dict[str, dict[str, float]], dict[str, Tensor]]:
    """Try a vector on heads, of which the first is the one it was learned from: (metrics of the others, columns).

    Leaks are differences outside the region between an edited image and the unedited one; LPIPS-VGG guides the edits
    itself, so these numbers serve development and are no verdict.
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
        metrics[name] = {
            f"leak_lpips_vgg_val{count}": float(loss.lpips[1:].mean()),
            f"leak_mse_val{count}": float(loss.mse[1:].mean()),
            f"followed_val{count}": float(loss.followed[1:].mean()),
        }

    def image(latents: Tensor) -> Tensor:
        return to_uint8(G.synthesis(latents, noise_mode="const")).cpu()

    def mask(latents: Tensor) -> Tensor:
        images, features = G.synthesis_features(latents, noise_mode="const")
        return colourize(S.predict(features, images.shape[-1]).cpu(), palette)

    columns = {"embedded": image(w_plus), "mask": mask(w_plus), "target": colourize(objective.masks.cpu(), palette)}
    for scale in params.preview_scales:
        columns[f"x{scale:g}"] = image(apply_vector(w_plus, vector, scale))
    columns |= {f"refined {params.refine.steps}": image(refined), "its mask": mask(refined)}
    return metrics, columns
