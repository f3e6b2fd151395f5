"""Milliseconds per image of the three editing modes, one image at a time and in a batch, with the trained models.

    python benchmarks/editing.py [--outputs outputs] [--images 16]

The reference is one image at a time. The last column is the difference between the pictures of the batch and of the
reference.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from editgan.data.archive import load_images
from editgan.data.paste import dilate
from editgan.editing.vectors import apply_vector
from editgan.editor.editor import Editor
from editgan.encoder.encoder import load_latents

REPEATS = 3


def timed(work: Callable[[], Tensor], repeats: int = 1) -> tuple[float, Tensor]:
    """Best seconds, and what the last call gave."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--images", type=int, default=16, help="test heads in the batch")
    parser.add_argument("--edit", default="smile", help="editing vector to apply")
    options = parser.parse_args()
    editor = Editor.load(options.outputs)
    w_plus = load_latents(options.outputs / "encoder" / "latents.safetensors")["test"][: options.images]
    photos = torch.as_tensor(load_images(options.outputs / "data" / "test.zip", range(len(w_plus))))
    parts = editor.S.class_ids(editor.vectors[options.edit].region_classes)

    def vector() -> Tensor:
        return editor.render(apply_vector(editor.w_plus, editor.vectors[options.edit]))

    def refined() -> Tensor:
        return editor.apply({options.edit: 1.0}, refine=30).images

    def optimised() -> Tensor:
        masks = editor.segment()
        target = masks.clone()
        region = dilate(torch.isin(masks, torch.tensor(parts, dtype=masks.dtype)), 2)
        target[region] = parts[0]
        return editor.edit(target, region, steps=100).images

    def embedded() -> Tensor:
        return editor.set_image(taken, steps=100)

    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {editor.G.img_resolution} px\n")
    print(f"| what | ms, one at a time | ms an image, batch of {len(w_plus)} | times faster | pictures differ by |")
    print("|---|---:|---:|---:|---:|")
    rows = (
        ("vector alone", vector, REPEATS, len(w_plus)),
        ("vector, 30 steps of refinement", refined, 1, 4),
        ("optimisation, 100 steps", optimised, 1, 2),
        ("embedding, 100 steps", embedded, 1, 4),
    )
    for name, work, repeats, alone in rows:
        seconds, single = 0.0, []
        for index in range(min(alone, len(w_plus))):
            editor.set_latents(w_plus[index : index + 1])
            taken = photos[index : index + 1]
            spent, result = timed(work, repeats)
            seconds, single = seconds + spent, [*single, result]
        editor.set_latents(w_plus)
        taken = photos
        together, result = timed(work, repeats)
        one, many = 1000 * seconds / len(single), 1000 * together / len(w_plus)
        difference = (torch.cat(single).float() - result[: len(single)].float()).abs().mean()
        print(f"| {name} | {one:.1f} | {many:.1f} | {one / many:.1f} | {difference:.2f} of 255 |", flush=True)


if __name__ == "__main__":
    main()
