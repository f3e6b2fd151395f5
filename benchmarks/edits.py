"""Quality of every editing vector on test heads (does the mask follow, leak, identity), with the trained models.

    python benchmarks/edits.py [--outputs outputs] [--heads 200] [--refined 0] [--optimised 0] [--scales -2 -1.5 ... 2]
        [--edits edits.yaml] [--only smile ...] [--steps 0 10 30 60] [--strips strips.png]

For each edit of `edits.yaml`, each head's target mask is made from the mask predicted on its reconstruction, as when
the vector was learned.

followed: share of the repainted pixels that are segmented as painted, at each scale; scale 0 is the share before the
edit. monotone: Spearman's correlation of scale and followed, mean over heads. At scale 1, compared with the
reconstruction: leak (squared error outside the region, images in [-1, 1]), LPIPS-Alex outside the region, identity
(cosine of MobileFaceNet's ArcFace features). "+30": after 30 steps of refinement, on the first `--refined` heads. "100
steps": after optimisation towards each head's own mask, without the vector, on the first `--optimised` heads. KID uses
EfficientNet-Lite0 features, which are not used in training, and the reference heads; at scale 0 it is the cost of the
embedding. Truth: the same head rendered with the full edit, if the renderer supports it: IoU of the predicted parts of
the edited head with those of the truth, and LPIPS-Alex to it, each for the embedded head and at scales 1 and 2. Other
side: for one-sided edits, mean change at scale 2 within the edited part and within the same part of the other side, in
grey levels. `--steps` adds a table of the first edit at strength 1 after each number of refinement steps, on its first
`--refined` heads. `--strips` writes a picture with one row per edit: the first head that it fits.
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from editgan.assets.load import load_network
from editgan.config import Params, load_params
from editgan.data.archive import load_attributes, load_classes, load_images, load_masks
from editgan.data.mesh import load_head_mesh
from editgan.data.render import render
from editgan.data.splits import sample_head
from editgan.editing.edits import Edit, fits, load_edits, target_mask
from editgan.editing.masks import edit_region
from editgan.editor.editor import Editor
from editgan.encoder.encoder import load_latents
from editgan.images import colourize, labelled_grid, save_png, to_float
from editgan.judges.quality import measure
from editgan.metrics import kernel_distance, outside_error

BATCH = 50
# What the renderer changes of a head to make an edit true; the rest stays as it is.
TRUTHS = {
    "smile": dict(smile=1.0, teeth=0.9),
    "smile_of_8": dict(smile=1.0, teeth=0.9),
    "open_mouth": dict(mouth_open=1.0),
    "closed_eyes": dict(blink=0.8),
    "raise_brows": dict(brow_raise=1.0),
    "frown": dict(frown=1.0),
    "long_hair": dict(hair_style="long"),
    "no_beard": dict(beard="none"),
    "beard": dict(beard="full"),
    "no_glasses": dict(glasses="none"),
}
STRIP_SCALES = (-1.0, 1.0, 1.5, 2.0)


def followed(masks: Tensor, before: Tensor, target: Tensor) -> Tensor:
    """Share of the pixels where `target` differs from `before` that `masks` show as wanted; labels [N, H, W] -> [N]."""
    painted = before != target
    return ((masks == target) & painted).sum((1, 2)) / painted.sum((1, 2))


def labelled_heads(outputs: Path, edits: Path) -> dict:
    """What `target_mask` takes parts from: the few-shot masks, as when vectors are learned."""
    few = len(load_latents(outputs / "encoder" / "latents.safetensors")["few_shot"])
    return dict(
        class_names=load_classes(outputs / "data" / "classes.json").names,
        donors=load_masks(outputs / "data" / "pool.zip", range(few)),
        donor_attributes=load_attributes(outputs / "data" / "pool.zip")[:few],
        folder=edits.parent,
    )


def targets_of(edit: Edit, masks: Tensor, donors: dict) -> Tensor:
    """Masks [N, H, W] as the edit wants them."""
    return torch.as_tensor(np.stack([target_mask(edit, mask, **donors)[0] for mask in masks.numpy()]))


def true_heads(name: str, heads: list[int], params: Params) -> tuple[Tensor, Tensor] | None:
    """Test heads as the renderer makes them with the edit in full: pictures [N, 3, H, W], masks [N, H, W]."""
    if name not in TRUTHS:
        return None
    mesh, change, made = load_head_mesh(), TRUTHS[name], []
    for index in heads:
        head = sample_head(mesh, "test", index, seed=params.seed, few_shot=params.data.few_shot)
        known = {key for key in change if hasattr(head.expression, key)}
        expression = replace(head.expression, **{key: change[key] for key in known})
        who = replace(head.who, **{key: value for key, value in change.items() if key not in known})
        sizes = dict(resolution=params.resolution, supersample=params.data.supersample)
        made.append(render(mesh, who, expression, head.view, **sizes))
    pictures, masks = (torch.as_tensor(np.stack(each)) for each in zip(*made, strict=True))
    return pictures.permute(0, 3, 1, 2), masks


def parts_iou(masks: Tensor, truth: Tensor, labels: Iterable[int]) -> float:
    """IoU with the truth, mean over those of the parts that either shows; labels [N, H, W]."""
    found = []
    for label in labels:
        both, any_of = (masks == label) & (truth == label), (masks == label) | (truth == label)
        if any_of.any():
            found.append(float(both.sum() / any_of.sum()))
    return sum(found) / max(len(found), 1)


def other_side(part: str) -> str:
    """The same part of the other side; itself where there are no two."""
    side, _, rest = part.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, part)


def set_heads(
    editor: Editor, w_plus: Tensor, attributes: list[dict], edit: Edit, donors: dict, count: int
) -> tuple[Tensor, Tensor, list[int]]:
    """Set the first `count` heads that an edit fits, but for those whose mask it does not change.

    Returns:
        (masks, masks as the edit wants them, which heads), of no head where there is none  # uint8 [N, H, W]
    """
    fitting = [i for i, head in enumerate(attributes) if all(fits(head, rule) for rule in edit.learn_from)][:count]
    if not fitting:
        none = torch.zeros(0, editor.G.img_resolution, editor.G.img_resolution, dtype=torch.uint8)
        return none, none, []
    editor.set_latents(w_plus[fitting])
    before = editor.segment()
    target = targets_of(edit, before, donors)
    use = (before != target).flatten(1).any(1)
    if use.any():
        editor.set_latents(editor.w_plus[use.to(editor.device)])
    return before[use], target[use], [head for head, used in zip(fitting, use.tolist(), strict=True) if used]


@torch.no_grad()
def against(images: Tensor, kept: Tensor, region: Tensor, networks: dict) -> tuple[float, float, float]:
    """(leak, LPIPS-Alex outside the region, identity), means over uint8 [N, 3, H, W]."""
    x, y, outside = to_float(images), to_float(kept), (~region)[:, None]
    rows = []
    for a, b, keep in zip(x.split(BATCH), y.split(BATCH), outside.split(BATCH), strict=True):
        same = (networks["mobilefacenet"](a) * networks["mobilefacenet"](b)).sum(1)
        rows.append(torch.stack([outside_error(a, b, ~keep[:, 0]), networks["lpips_alex"](a * keep, b * keep), same]))
    return tuple(torch.cat(rows, 1).mean(1).tolist())


def strip(editor: Editor, name: str, w_plus: Tensor, target: Tensor) -> dict[str, Tensor]:
    """One row of a picture: a head and its wanted mask, the vector, refined, optimised.  # uint8 [1, 3, H, W] each"""
    editor.set_latents(w_plus)
    columns = {"embedded": editor.render(w_plus), "mask": colourize(editor.segment(), editor.palette)}
    columns["wanted"] = colourize(target, editor.palette)
    columns |= {f"vector x{scale:g}": editor.apply({name: scale}).images for scale in STRIP_SCALES}
    refined, optimised = editor.apply({name: 2.0}, refine=30), editor.edit(target)
    columns |= {"x2, refined": refined.images, "its mask": colourize(refined.masks, editor.palette)}
    return columns | {"optimised": optimised.images, "its mask ": colourize(optimised.masks, editor.palette)}


def refinement_table(
    editor: Editor, name: str, steps: list[int], before: Tensor, target: Tensor, networks: dict
) -> None:
    """Print what so many steps of refinement change of the edit at strength 1 of the heads that are set."""
    kept, region = (
        editor.render(editor.w_plus),
        edit_region(before, target, editor.S.class_ids(editor.vectors[name].region_classes)),
    )
    print(f"\n| {name}, steps | heads | followed | leak x1e3 | LPIPS-Alex | identity |\n|---:" + "|---:" * 5 + "|")
    for count in steps:
        edited = editor.apply({name: 1.0}, refine=count)
        leak, lpips, identity = against(edited.images, kept, region, networks)
        share = followed(edited.masks, before, target).mean()
        print(
            f"| {count} | {len(before)} | {share:.0%} | {1000 * leak:.2f} | {lpips:.3f} | {identity:.3f} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--edits", type=Path, default=Path("edits.yaml"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="of the run that rendered the heads")
    parser.add_argument("--heads", type=int, default=200, help="test heads, the first so many that an edit fits")
    parser.add_argument("--refined", type=int, default=0, help="of these, so many are refined, too")
    parser.add_argument("--optimised", type=int, default=0, help="of these, so many are optimised, too")
    parser.add_argument("--scales", nargs="+", type=float, default=[-2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0])
    parser.add_argument("--only", nargs="+", metavar="EDIT", help="these edits only")
    parser.add_argument("--steps", nargs="+", type=int, default=[], help="of refinement, compared for the first edit")
    parser.add_argument("--strips", type=Path, help="write a picture with a row an edit")
    options = parser.parse_args()
    if options.heads < 2:
        parser.error("--heads: KID needs two")
    editor, data, params = Editor.load(options.outputs), options.outputs / "data", load_params(options.params)
    names = ("mobilefacenet", "lpips_alex", "efflite0")
    networks = {name: load_network(name, options.outputs / "assets") for name in names}
    reference = measure(networks["efflite0"], torch.as_tensor(load_images(data / "reference.zip")))
    w_plus = load_latents(options.outputs / "encoder" / "latents.safetensors")["test"]
    donors, attributes = labelled_heads(options.outputs, options.edits), load_attributes(data / "test.zip")
    scales, strips, first = sorted({0.0, 1.0, 2.0, *options.scales}), {}, None
    columns = ["edit", "heads", *(f"followed at {scale:g}" for scale in scales), "monotone", "leak x1e3", "LPIPS-Alex"]
    columns += ["identity", "heads +30", "followed", "leak x1e3", "heads, 100 steps", "followed", "leak x1e3"]
    columns += [f"KID_efflite0 x1e3 at {scale:g}" for scale in scales]
    columns += ["IoU with the truth at 0, 1, 2", "LPIPS-Alex to the truth at 0, 1, 2", "change at 2: own, other side"]
    print(f"| {' | '.join(columns)} |\n|---|" + "---:|" * (len(columns) - 1), flush=True)
    for name, edit in load_edits(options.edits, editor.class_names).items():
        if name not in editor.vectors or (options.only and name not in options.only):
            continue
        before, target, shown = set_heads(editor, w_plus, attributes, edit, donors, options.heads)
        if not len(before):
            continue
        kept, latents = editor.render(editor.w_plus), editor.w_plus
        first = first or (name, latents[: options.refined], before[: options.refined], target[: options.refined])
        if options.strips:
            strips[name] = strip(editor, name, latents[:1], target[:1])
            editor.set_latents(latents)
        region = edit_region(before, target, editor.S.class_ids(edit.region))
        found, kids, truth, matches, moved = {}, [], true_heads(name, shown, params), [], None
        for scale in scales:
            edited = editor.apply({name: scale})
            if scale in (0.0, 1.0, 2.0) and truth is not None:
                iou = parts_iou(edited.masks, truth[1], editor.S.class_ids(edit.region))
                matches.append((iou, float(networks["lpips_alex"](to_float(edited.images), to_float(truth[0])).mean())))
            if scale == 2:
                change = (edited.images.float() - kept.float()).abs().mean(1)  # [N, H, W]
                sides = [editor.S.class_ids([part]) for part in (edit.region[0], other_side(edit.region[0]))]
                moved = [float(change[before == side[0]].mean()) for side in sides]
            found[scale] = followed(edited.masks, before, target)  # [N]
            kids.append(kernel_distance(measure(networks["efflite0"], edited.images), reference))
            if scale == 1:
                leak, lpips, identity = against(edited.images, kept, region, networks)
        orders = [spearmanr(scales, [found[scale][i].item() for scale in scales]).statistic for i in range(len(before))]
        cells = [f"{found[scale].mean():.0%}" for scale in scales]
        cells += [f"{np.nanmean(orders):.2f}", f"{1000 * leak:.2f}", f"{lpips:.3f}", f"{identity:.3f}"]
        for count, optimise in ((options.refined, False), (options.optimised, True)):
            count = min(count, len(before))
            if not count:
                cells += ["0", "-", "-"]
                continue
            editor.set_latents(latents[:count])
            edited = editor.edit(target[:count]) if optimise else editor.apply({name: 1.0}, refine=30)
            after, _, _ = against(edited.images, kept[:count], region[:count], networks)
            cells += [str(count), f"{followed(edited.masks, before[:count], target[:count]).mean():.0%}"]
            cells += [f"{1000 * after:.2f}"]
        cells += [f"{1000 * kid:.1f}" for kid in kids]
        cells += [", ".join(f"{match[column]:.3f}" for match in matches) or "-" for column in (0, 1)]
        one_sided = other_side(edit.region[0]) not in edit.region
        cells.append(", ".join(f"{value:.1f}" for value in moved) if one_sided else "-")
        print(f"| {name} | {len(before)} | " + " | ".join(cells) + " |", flush=True)
    if options.steps and first and len(first[1]):
        editor.set_latents(first[1])
        refinement_table(editor, first[0], options.steps, first[2], first[3], networks)
    if strips:
        columns = {
            caption: torch.cat([row[caption] for row in strips.values()]) for caption in next(iter(strips.values()))
        }
        print(f"\n{save_png(options.strips, labelled_grid(columns, scale=1))}, from the top: {', '.join(strips)}")


if __name__ == "__main__":
    main()
