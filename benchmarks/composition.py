"""Interaction of edits, on test heads: the share of an edit that remains when a second edit is added.

    python benchmarks/composition.py [--edits smile wide_eyes ...] [--heads 40]

Rows are edits, columns are added edits, both at strength 1. A cell is the row's *followed* with the column's edit
divided by *followed* without it; the diagonal is *followed* of the edit alone. Vectors are added, so their order should
not matter: the last line measures that.
"""

from itertools import pairwise

from edits import fitting_heads
from measuring import Trained, followed, header, row, trained_command_line

EDITS = ["smile", "open_mouth", "closed_eyes", "raise_brows", "big_nose", "long_hair", "beard"]


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--edits", nargs="+", default=EDITS)
    parser.add_argument("--heads", type=int, default=40, help="maximum number of test heads per edit")
    options = parser.parse_args()
    run = Trained(options)
    editor, w_plus, attributes = run.editor, run.latents("test"), run.attributes("test")
    unknown = [name for name in options.edits if name not in run.edits or name not in editor.vectors]
    if unknown:
        parser.error(f"--edits {unknown[0]}: there are {', '.join(editor.vectors)}")
    header(f"first {options.heads} heads that fit", *(f"+ {name}" for name in options.edits))
    for name in options.edits:
        heads = fitting_heads(run, run.edits[name], w_plus, attributes, options.heads)
        if heads is None:
            continue

        def share(*names: str, heads=heads) -> float:
            return followed(editor.apply(dict.fromkeys(names, 1.0)).masks, heads.before, heads.target).mean().item()

        alone = share(name)
        ratios = {other: f"{share(name, other) / max(alone, 1e-6):.2f}" for other in options.edits if other != name}
        row(name, *(ratios.get(other, f"{alone:.0%}") for other in options.edits))
    editor.set_latents(w_plus[: options.heads])
    worst = 0.0
    for pair in pairwise(options.edits):
        one, other = (editor.apply(dict.fromkeys(order, 1.0)).w_plus for order in (pair, pair[::-1]))
        worst = max(worst, (one - other).abs().max().item())
    print(f"\nLargest difference of latents between the two orders of a pair: {worst:.1e}")


if __name__ == "__main__":
    main()
