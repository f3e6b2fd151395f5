"""Editing vectors learned from one head compared with the mean of several, on other validation heads.

    python benchmarks/vectors.py [--outputs outputs] [--edits smile big_nose long_hair] [--heads 1 2 4 8] [--tried 60]

Each head's delta_w_plus is learned with the settings of stage `editing`, from neutral heads that fit the edit, the most
frontal first. The vectors are tested on other heads that fit; further validation heads are embedded for this. At each
strength: followed, the share of the repainted pixels that are segmented as painted; smiling, the share that the guide
calls smiling; leak, the squared error outside the region. All are relative to the embedding.
"""

import argparse
from pathlib import Path

import torch
from edits import followed, labelled_heads, targets_of
from torch import Tensor

from editgan.config import load_params
from editgan.data.archive import load_attributes, load_images
from editgan.editing.edits import load_edits, suitable_heads
from editgan.editing.masks import edit_region
from editgan.editing.vectors import EditingVector
from editgan.editor.editor import Editor
from editgan.encoder.encoder import load_latents
from editgan.encoder.inversion import invert
from editgan.images import to_float
from editgan.judges import load_guide
from editgan.judges.quality import SMILE_THRESHOLD
from editgan.metrics import outside_error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--file", type=Path, default=Path("edits.yaml"))
    parser.add_argument("--edits", nargs="+", default=["smile", "big_nose", "long_hair"])
    parser.add_argument("--heads", nargs="+", type=int, default=[1, 2, 4, 8], help="that vectors are learned from")
    parser.add_argument("--tried", type=int, default=60, help="other heads")
    parser.add_argument("--scales", nargs="+", type=float, default=[1.0, 1.5, 2.0], help="strengths")
    options = parser.parse_args()
    editor, guide = Editor.load(options.outputs), load_guide(options.outputs / "judges")
    params, data = load_params(options.params), options.outputs / "data"
    donors, described = labelled_heads(options.outputs, options.file), load_edits(options.file, editor.class_names)
    unknown = [name for name in options.edits if name not in described]
    if unknown:
        parser.error(f"--edits {unknown[0]}: {options.file} describes {', '.join(described)}")
    attributes = load_attributes(data / "val.zip")
    val = dict(enumerate(load_latents(options.outputs / "encoder" / "latents.safetensors")["val"]))
    learners = max(options.heads)

    def embed(heads: list[int]) -> None:
        missing = [head for head in heads if head not in val]
        if missing:
            photos = to_float(torch.as_tensor(load_images(data / "val.zip", missing)))
            found = invert(
                editor.G,
                editor.E,
                editor.lpips_vgg,
                photos.to(editor.device),
                steps=params.encoder.inversion_steps,
                lr=params.encoder.inversion_lr,
            )
            val.update(zip(missing, found.cpu(), strict=True))

    def changed(name: str, heads: list[int], count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(latents, masks, wanted masks, regions) of the first heads whose mask the edit changes."""
        embed(heads)
        latents = torch.stack([val[head] for head in heads])
        editor.set_latents(latents)
        masks = editor.segment()
        wanted = targets_of(described[name], masks, donors)
        use = (masks != wanted).flatten(1).any(1).nonzero()[:count, 0]
        region = edit_region(masks[use], wanted[use], editor.S.class_ids(described[name].region))
        return latents[use], masks[use], wanted[use], region

    print("| edit | heads learned from | norm | tried on | strength | followed | smiling | leak x1e3 |")
    print("|---|" + "---:|" * 7)
    for name in options.edits:
        heads = suitable_heads(described[name], attributes)
        embedded = [head for head in heads if head in val][: learners + 4]
        others = [head for head in heads if head not in embedded]
        others = sorted(others, key=lambda head: head not in val)[: options.tried]
        if not embedded or not others:
            print(f"| {name} | too few validation heads fit |")
            continue
        latents, _, wanted, region = changed(name, embedded, learners)
        editor.set_latents(latents)
        options_of = params.editing.edit
        learned = editor.edit(
            wanted,
            region,
            steps=options_of.steps,
            lr=options_of.lr,
            weights=options_of.weights,
            shared_rows=params.editing.shared_rows,
        )
        deltas = (learned.w_plus - editor.w_plus).cpu()  # [K, num_ws, w_dim]
        latents, masks, wanted, region = changed(name, others, options.tried)
        editor.set_latents(latents)
        kept = to_float(editor.render(editor.w_plus))
        for count in options.heads:
            delta, parts = deltas[:count].mean(0), described[name].region
            editor.vectors["tried"] = EditingVector(name, parts, "validation heads", delta)
            for scale in options.scales:
                edited = editor.apply({"tried": scale})
                share, images = followed(edited.masks, masks, wanted).mean(), to_float(edited.images)
                with torch.no_grad():
                    smiling = (guide.smile(images) >= SMILE_THRESHOLD).double().mean()
                leak = 1000 * outside_error(images, kept, region).mean()
                cells = f"{len(latents)} | {scale:g} | {share:.0%} | {smiling:.0%} | {leak:.2f}"
                print(f"| {name} | {len(deltas[:count])} | {delta.norm():.2f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
