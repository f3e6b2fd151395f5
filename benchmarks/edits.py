"""Quality of every editing vector on test heads: does the mask follow, leak, identity, KID, distance to the truth.

    python benchmarks/edits.py [--heads 200] [--refined 0] [--optimised 0] [--only smile ...] [--steps 0 10 30 60]
        [--strips strips.png]

Each head's target mask is made from the mask predicted on its reconstruction, as when the vector was learned; all
comparisons are with the reconstruction, LPIPS-Alex outside the region. "+30" refines the first `--refined` heads; "100
steps" optimises the first `--optimised` ones towards their own masks, without the vector. The truth is the same head
rendered with the full edit. Other side: for one-sided edits, the mean change within the edited part and within the same
part of the other side, in grey levels. `--steps` compares numbers of refinement steps for the first edit.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from measuring import Trained, followed, header, leak, row, trained_command_line
from scipy.stats import spearmanr
from torch import Tensor

from editgan.config import Params
from editgan.data.mesh import load_head_mesh
from editgan.data.render import render
from editgan.data.splits import sample_head
from editgan.editing.edits import Edit, fits
from editgan.editing.masks import edit_region
from editgan.editor.editor import Editor
from editgan.images import colourize, labelled_grid, save_png, to_float
from editgan.judges.quality import measure
from editgan.metrics import kernel_distance

SCALES = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
BATCH = 50
# What the renderer changes of a head to make an edit true; the rest stays as it is.
TRUTHS = {
    "smile": dict(smile=1.0, teeth=0.9),
    "smile_mean": dict(smile=1.0, teeth=0.9),
    "open_mouth": dict(mouth_open=1.0),
    "closed_eyes": dict(blink=0.8),
    "raise_brows": dict(brow_raise=1.0),
    "frown": dict(frown=1.0),
    "long_hair": dict(hair_style="long"),
    "no_beard": dict(beard="none"),
    "beard": dict(beard="full"),
    "no_glasses": dict(glasses="none"),
}


@dataclass(frozen=True)
class Heads:
    """Test heads that an edit fits and whose mask it changes."""

    numbers: list[int]
    w_plus: Tensor  # [N, num_ws, w_dim]
    before: Tensor  # their predicted masks  # uint8 [N, H, W]
    target: Tensor  # these masks as the edit wants them
    region: Tensor  # bool [N, H, W]


def fitting_heads(run: Trained, edit: Edit, w_plus: Tensor, attributes: list[dict], count: int) -> Heads | None:
    """Set the first `count` heads that an edit fits, but for those whose mask it does not change; None: there is none.

    Args:
        w_plus, attributes: of all heads
    """
    fitting = [i for i, head in enumerate(attributes) if all(fits(head, rule) for rule in edit.learn_from)][:count]
    if not fitting:
        return None
    run.editor.set_latents(w_plus[fitting])
    before = run.editor.segment()
    target = run.wanted(edit, before)
    used = (before != target).flatten(1).any(1)
    if not used.any():
        return None
    heads, before, target = torch.tensor(fitting)[used], before[used], target[used]
    run.editor.set_latents(w_plus[heads])
    region = edit_region(before, target, run.editor.S.class_ids(edit.region))
    return Heads(heads.tolist(), w_plus[heads], before, target, region)


def true_heads(name: str, heads: list[int], params: Params) -> tuple[Tensor, Tensor]:
    """Test heads as the renderer makes them with the edit in full: pictures [N, 3, H, W], masks [N, H, W]."""
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


@torch.no_grad()
def lpips_outside(network: torch.nn.Module, images: Tensor, kept: Tensor, region: Tensor) -> float:
    """LPIPS-Alex of two stacks, uint8 [N, 3, H, W], with the region blackened in both."""
    parts = zip(images.split(BATCH), kept.split(BATCH), (~region)[:, None].split(BATCH), strict=True)
    return torch.cat([network(to_float(x) * outside, to_float(y) * outside) for x, y, outside in parts]).mean().item()


def strip(editor: Editor, name: str, heads: Heads) -> dict[str, Tensor]:
    """One row of a picture: a head and its wanted mask, the vector, refined, optimised.  # uint8 [1, 3, H, W] each"""
    editor.set_latents(heads.w_plus[:1])
    columns = {"embedded": editor.render(editor.w_plus), "mask": colourize(editor.segment(), editor.palette)}
    columns["wanted"] = colourize(heads.target[:1], editor.palette)
    columns |= {f"vector x{scale:g}": editor.apply({name: scale}).images for scale in (-1.0, 1.0, 1.5, 2.0)}
    refined, optimised = editor.apply({name: 2.0}, refine=30), editor.edit(heads.target[:1])
    columns |= {"x2, refined": refined.images, "its mask": colourize(refined.masks, editor.palette)}
    return columns | {"optimised": optimised.images, "its mask ": colourize(optimised.masks, editor.palette)}


def refinement_table(
    run: Trained, lpips: torch.nn.Module, name: str, heads: Heads, count: int, steps: list[int]
) -> None:
    """What so many steps of refinement change of an edit at strength 1 of the first `count` heads."""
    before, target, region = heads.before[:count], heads.target[:count], heads.region[:count]
    run.editor.set_latents(heads.w_plus[:count])
    kept = run.editor.render(run.editor.w_plus)
    header(f"{name}, steps", "heads", "followed", "leak x1e3", "LPIPS-Alex", "identity")
    for number in steps:
        edited = run.editor.apply({name: 1.0}, refine=number)
        images, share = edited.images, followed(edited.masks, before, target).mean()
        cells = f"{share:.0%}", f"{leak(images, kept, region):.2f}", f"{lpips_outside(lpips, images, kept, region):.3f}"
        row(number, len(before), *cells, f"{run.identity(images, kept):.3f}")


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--heads", type=int, default=200, help="test heads of each edit at most, two or more")
    parser.add_argument("--refined", type=int, default=0, help="of these, so many are refined, too")
    parser.add_argument("--optimised", type=int, default=0, help="of these, so many are optimised, too")
    parser.add_argument("--only", nargs="+", metavar="EDIT", help="these edits only")
    parser.add_argument("--steps", nargs="+", type=int, default=[], help="of refinement, compared for the first edit")
    parser.add_argument("--strips", type=Path, help="write a picture with a row an edit")
    options = parser.parse_args()
    run = Trained(options)
    editor, lpips, features = run.editor, run.network("lpips_alex"), run.network("efflite0")
    reference = measure(features, run.images("reference"), device=run.device)
    w_plus, attributes, strips, first = run.latents("test"), run.attributes("test"), [], None
    columns = ["edit", "heads", *(f"followed at {scale:g}" for scale in SCALES), "monotone", "leak x1e3", "LPIPS-Alex"]
    columns += ["identity", "heads +30", "followed", "leak x1e3", "heads, 100 steps", "followed", "leak x1e3"]
    columns += [f"KID_efflite0 x1e3 at {scale:g}" for scale in SCALES]
    columns += ["IoU with the truth at 0, 1, 2", "LPIPS-Alex to the truth at 0, 1, 2", "change at 2: own, other side"]
    header(*columns)
    for name, edit in run.edits.items():
        if name not in editor.vectors or (options.only and name not in options.only):
            continue
        heads = fitting_heads(run, edit, w_plus, attributes, options.heads)
        if heads is None:
            continue
        first = first or (name, heads)
        kept, before, target, region = editor.render(heads.w_plus), heads.before, heads.target, heads.region
        parts = editor.S.class_ids(edit.region)
        edited = {scale: editor.apply({name: scale}) for scale in SCALES}
        shares = torch.stack([followed(each.masks, before, target) for each in edited.values()])  # [S, N]
        cells = [name, len(before), *(f"{share:.0%}" for share in shares.mean(1))]
        cells.append(f"{np.nanmean([spearmanr(SCALES, of_head).statistic for of_head in shares.T]):.2f}")
        images = edited[1.0].images
        cells += [f"{leak(images, kept, region):.2f}", f"{lpips_outside(lpips, images, kept, region):.3f}"]
        cells.append(f"{run.identity(images, kept):.3f}")
        for most, optimise in ((options.refined, False), (options.optimised, True)):
            count = min(most, len(before))
            if not count:
                cells += ["0", "-", "-"]
                continue
            editor.set_latents(heads.w_plus[:count])
            after = editor.edit(target[:count]) if optimise else editor.apply({name: 1.0}, refine=30)
            share = followed(after.masks, before[:count], target[:count]).mean()
            cells += [count, f"{share:.0%}", f"{leak(after.images, kept[:count], region[:count]):.2f}"]
        for each in edited.values():
            kid = kernel_distance(measure(features, each.images, device=run.device), reference)
            cells.append(f"{1000 * kid:.1f}")
        if name in TRUTHS:
            pictures, masks = true_heads(name, heads.numbers, run.params)
            three = [edited[scale] for scale in (0.0, 1.0, 2.0)]
            nothing = torch.zeros_like(region)
            cells.append(", ".join(f"{parts_iou(each.masks, masks, parts):.3f}" for each in three))
            cells.append(", ".join(f"{lpips_outside(lpips, each.images, pictures, nothing):.3f}" for each in three))
        else:
            cells += ["-", "-"]
        other = other_side(edit.region[0])
        if other in edit.region:
            cells.append("-")
        else:
            change = (edited[2.0].images.float() - kept.float()).abs().mean(1)  # [N, H, W]
            sides = editor.S.class_ids([edit.region[0], other])
            cells.append(", ".join(f"{change[before == side].mean():.1f}" for side in sides))
        row(*cells)
        if options.strips:
            strips.append((name, strip(editor, name, heads)))
    if options.steps and first:
        name, heads = first
        refinement_table(run, lpips, name, heads, options.refined or options.heads, options.steps)
    if strips:
        columns = {caption: torch.cat([images[caption] for _, images in strips]) for caption in strips[0][1]}
        path = save_png(options.strips, labelled_grid(columns, scale=1))
        print(f"\n{path}, from the top: {', '.join(name for name, _ in strips)}")


if __name__ == "__main__":
    main()
