"""How edits interact on test heads: the share of an edit's mask that survives when a second edit is added.

    python benchmarks/composition.py [--outputs outputs] [--edits smile wide_eyes ...] [--heads 40]

Rows are edits, columns are the added edits, both at strength 1. *followed* is the share of repainted pixels that are
segmented as painted. A cell is `followed` of the row's edit with the column's edit, divided by `followed` without it.
The diagonal is `followed` of the edit alone. Vectors are added, so the order should not matter; the last line measures
that.
"""

import argparse
from itertools import pairwise
from pathlib import Path

from edits import followed, labelled_heads, set_heads

from editgan.data.archive import load_attributes
from editgan.editing.edits import load_edits
from editgan.editor.editor import Editor
from editgan.encoder.encoder import load_latents

EDITS = ("smile", "open_mouth", "closed_eyes", "raise_brows", "big_nose", "long_hair", "beard")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--file", type=Path, default=Path("edits.yaml"))
    parser.add_argument("--edits", nargs="+", default=list(EDITS))
    parser.add_argument("--heads", type=int, default=40, help="test heads")
    options = parser.parse_args()
    editor, donors = Editor.load(options.outputs), labelled_heads(options.outputs, options.file)
    latents = load_latents(options.outputs / "encoder" / "latents.safetensors")["test"]
    described = load_edits(options.file, editor.class_names)
    attributes = load_attributes(options.outputs / "data" / "test.zip")
    unknown = [name for name in options.edits if name not in described]
    if unknown:
        parser.error(f"--edits {unknown[0]}: {options.file} describes {', '.join(described)}")
    names = [name for name in options.edits if name in editor.vectors]
    print(
        f"The first {options.heads} test heads that fit an edit\n\n| | "
        + " | ".join(f"+ {name}" for name in names)
        + " |"
    )
    print("|---|" + "---:|" * len(names))
    for name in names:
        before, wanted = set_heads(editor, latents, attributes, described[name], donors, options.heads)
        if not len(before):
            continue

        def share(edits: dict[str, float], before=before, wanted=wanted) -> float:
            return followed(editor.apply(edits).masks, before, wanted).mean().item()

        alone = share({name: 1.0})
        cells = [
            f"{alone:.0%}" if other == name else f"{share({name: 1.0, other: 1.0}) / max(alone, 1e-6):.2f}"
            for other in names
        ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    editor.set_latents(latents[: options.heads])
    worst = 0.0
    for first, second in pairwise(names):
        one, other = (editor.apply(dict.fromkeys(order, 1.0)).w_plus for order in ((first, second), (second, first)))
        worst = max(worst, (one - other).abs().max().item())
    print(f"\nLargest difference of latents between the two orders of a pair: {worst:.1e}")


if __name__ == "__main__":
    main()
