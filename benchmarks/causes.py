"""Causes of failed edits, on test heads: segmentation, generator or optimisation.

    python benchmarks/causes.py [--heads 24] [--only beard ...]

The renderer draws each head again with only the edited attribute changed (a beard, no glasses, a larger nose). This
picture, the true edit, is embedded as in stage `encoder`. A cell is the share of heads that have at least half of the
change in the edit's target mask, measured by the parser of stage `maskgan` or by the segmentation S:

    true picture        true edit, by the parser; if low, the parser cannot judge this edit
    its embedding       its reconstruction, by the parser; if low, generator or inversion fail
    the same, by S      its reconstruction, by S; if low, S fails
    optimised, by S     100 steps towards the target mask, by S; if low, the optimisation fails
    optimised           the same, by the parser
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from edits import HALF, Judged, fitting_heads
from measuring import Trained, header, row, trained_command_line
from torch import Tensor

from editgan.data.heads.head import sample_head
from editgan.data.heads.identity import Identity
from editgan.data.heads.mesh import HeadMesh, load_head_mesh
from editgan.data.heads.render import render
from editgan.data.heads.scene import Expression
from editgan.data.renderers import SUPERSAMPLE
from editgan.methods.maskgan.losses import Parser, predict
from editgan.weights import load_module

NOSE = ("scale-horiz", "scale-vert", "volume", "width2", "width3")  # shape axes of the larger nose


def larger_nose(who: Identity, expression: Expression) -> tuple[Identity, Expression]:
    shrinking = {f"nose/nose-{axis}-decr" for axis in NOSE}
    kept = {name: weight for name, weight in who.weights.items() if name not in shrinking}
    return replace(who, weights=kept | {f"nose/nose-{axis}-incr": 1.0 for axis in NOSE}), expression


def changed(**attributes) -> Callable:
    return lambda who, expression: (replace(who, **attributes), expression)


TRUTH = {
    "big_nose": larger_nose,
    "beard": changed(beard="full"),
    "no_beard": changed(beard="none"),
    "no_glasses": changed(glasses="none"),
    "long_hair": changed(hair_style="long"),
}


def rendered(run: Trained, mesh: HeadMesh, numbers: list[int], change: Callable) -> Tensor:
    """Test heads rendered with the changed attribute, uint8 [N, 3, H, W]."""
    pictures = []
    for number in numbers:
        head = sample_head(mesh, "test", number, seed=run.params.seed, few_shot=run.params.data.few_shot)
        who, expression = change(head.who, head.expression)
        image, _ = render(mesh, who, expression, head.view, resolution=run.params.resolution, supersample=SUPERSAMPLE)
        pictures.append(torch.from_numpy(image.copy()).permute(2, 0, 1))
    return torch.stack(pictures)


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--heads", type=int, default=24, help="maximum number of test heads per edit")
    parser.add_argument("--only", nargs="+", metavar="EDIT", default=list(TRUTH), choices=list(TRUTH))
    options = parser.parse_args()
    run, mesh = Trained(options), load_head_mesh()
    editor = run.editor
    reader = load_module(run.outputs / "maskgan" / "parser.safetensors", Parser).to(run.device)
    header("edit", "heads", "true picture", "its embedding", "the same, by S", "optimised, by S", "optimised")
    for name in options.only:
        heads = fitting_heads(run, run.edits[name], run.latents("test"), run.attributes("test"), options.heads)
        judged = Judged(run, reader, name, heads)

        def share(masks: Tensor, before: Tensor, judged: Judged = judged) -> str:
            reached = (judged.of(masks) - judged.of(before)) / judged.asked
            return f"{(reached >= HALF)[judged.counts].double().mean():.0%}"

        photos = run.images("test", heads.numbers)
        true = rendered(run, mesh, heads.numbers, TRUTH[name])
        editor.set_image(true)
        embedded = editor.reconstruct(), editor.segment()
        editor.set_latents(heads.w_plus)
        optimised = editor.edit(heads.target)
        by_parser = predict(reader, judged.kept)
        row(
            name,
            int(judged.counts.sum()),
            share(predict(reader, true), predict(reader, photos)),
            share(predict(reader, embedded[0]), by_parser),
            share(embedded[1], heads.before),
            share(optimised.masks, heads.before),
            share(predict(reader, optimised.images), by_parser),
        )


if __name__ == "__main__":
    main()
