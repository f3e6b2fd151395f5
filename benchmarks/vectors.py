"""Editing vectors learned from one head compared with the mean of several, on other validation heads.

    python benchmarks/vectors.py [--edits smile big_nose long_hair] [--heads 1 2 4 8] [--tried 60] [--scales 1 1.5 2]

The delta_w_plus of each head is learned with the settings of stage `editing`, from heads that satisfy the edit's rules,
in the order that the edits file asks for. The vectors are measured on other heads that satisfy them, which are embedded
if stage `encoder` did not. Smiles are detected by the guide; leak is relative to the reconstruction.
"""

from measuring import Trained, followed, header, leak, row, trained_command_line
from torch import Tensor

from editgan.editing.edits import suitable_pictures
from editgan.editing.masks import edit_region
from editgan.editing.vectors import EditingVector
from editgan.judges.load import load_guide


def changed(run: Trained, name: str, heads: list[int], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Set the first `count` heads whose mask the edit changes; returns their masks, target masks and regions."""
    w_plus = run.val_latents(heads)
    run.editor.set_latents(w_plus)
    masks = run.editor.segment()
    wanted = run.wanted(run.edits[name], masks)
    used = (masks != wanted).flatten(1).any(1).nonzero()[:count, 0]
    run.editor.set_latents(w_plus[used])
    region = edit_region(masks[used], wanted[used], run.editor.S.class_ids(run.edits[name].region))
    return masks[used], wanted[used], region


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--edits", nargs="+", default=["smile", "big_nose", "long_hair"])
    parser.add_argument("--heads", nargs="+", type=int, default=[1, 2, 4, 8], help="heads per vector")
    parser.add_argument("--tried", type=int, default=60, help="maximum number of other heads to measure on")
    parser.add_argument("--scales", nargs="+", type=float, default=[1.0, 1.5, 2.0], help="strengths")
    options = parser.parse_args()
    run = Trained(options)
    editor, guide, section = run.editor, load_guide(run.outputs / "judges").to(run.device), run.params.editing
    unknown = [name for name in options.edits if name not in run.edits]
    if unknown:
        parser.error(f"--edits {unknown[0]}: there are {', '.join(run.edits)}")
    attributes, stored = run.attributes("val"), len(run.latents("val"))
    header("edit", "heads learned from", "norm", "tried on", "strength", "followed", "smiling", "leak x1e3")
    for name in options.edits:
        heads = suitable_pictures(run.edits[name], attributes)
        learners = [head for head in heads if head < stored][: max(options.heads) + 4]
        others = [head for head in heads if head not in learners]
        others = sorted(others, key=lambda head: head >= stored)[: options.tried]
        if not learners or not others:
            row(name, "too few validation heads fit", *6 * ["-"])
            continue
        _, wanted, region = changed(run, name, learners, max(options.heads))
        learned = editor.edit(wanted, region, steps=section.edit.steps, lr=section.edit.lr, weights=section.weights)
        deltas = (learned.w_plus - editor.w_plus).cpu()  # [K, num_ws, w_dim]
        masks, wanted, region = changed(run, name, others, options.tried)
        kept = editor.render(editor.w_plus)
        for count in options.heads:
            delta = deltas[:count].mean(0)
            editor.vectors["tried"] = EditingVector(name, run.edits[name].region, "validation heads", delta)
            for scale in options.scales:
                edited = editor.apply({"tried": scale})
                cells = [f"{scale:g}", f"{followed(edited.masks, masks, wanted).mean():.0%}"]
                cells += [f"{run.smiling(guide, edited.images):.0%}", f"{leak(edited.images, kept, region):.2f}"]
                row(name, len(deltas[:count]), f"{delta.norm():.2f}", len(masks), *cells)


if __name__ == "__main__":
    main()
