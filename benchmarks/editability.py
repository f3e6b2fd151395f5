"""Distortion against editability of embeddings by number of inversion steps, on test heads, with the trained models.

    python benchmarks/editability.py [--heads 60] [--steps 0 25 50 100 250] [--strength 1.25]
        [--only smile closed_eyes raise_brows wide_face] [--picture editability.png]

For each row, the same heads are embedded by the encoder and the given number of steps in W+, and the mean vector of
each edit is applied at one strength. Success and leak are defined as in `benchmarks/edits.py`, averaged over the edits.
The target masks are always computed from the shipped embeddings, so that rows are comparable. KID compares all edited
pictures with the reference heads. The last row is without the pull towards the encoder's estimate.
"""

from pathlib import Path

import torch
from edits import Judged, fitting_heads
from matplotlib.figure import Figure
from measuring import Trained, header, row, trained_command_line

from editgan.data.archive import load_images
from editgan.editing.vectors import MEAN
from editgan.judges.quality import measure
from editgan.methods.maskgan.losses import Parser
from editgan.metrics import kernel_distance
from editgan.weights import load_module


def plot(path: Path, found: dict[int, dict[str, float]]) -> None:
    """Plot each metric against the number of steps."""
    names = list(next(iter(found.values())))
    figure = Figure(figsize=(3 * len(names), 2.8), layout="constrained")
    for index, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), index, xlabel="steps", title=name)
        axes.plot(list(found), [values[name] for values in found.values()], "-o", markersize=3)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--heads", type=int, default=60)
    parser.add_argument("--steps", nargs="+", type=int, default=[0, 25, 50, 100, 250])
    parser.add_argument("--strength", type=float, default=1.25)
    parser.add_argument("--only", nargs="+", default=["smile", "closed_eyes", "raise_brows", "wide_face"])
    parser.add_argument("--picture", type=Path, help="output file of the plot")
    options = parser.parse_args()
    run = Trained(options)
    editor, features = run.editor, run.network("efflite0")
    reader = load_module(run.outputs / "maskgan" / "parser.safetensors", Parser).to(run.device)
    numbers = range(options.heads)
    w_shipped, attributes, photos = run.latents("test"), run.attributes("test"), run.images("test", numbers)
    reals = measure(features, torch.as_tensor(load_images(run.data / "reference.zip")), device=run.device)
    fitting = {name: fitting_heads(run, run.edits[name], w_shipped[: options.heads], attributes, options.heads)
               for name in options.only}  # fmt: skip
    of_edits = {name: Judged(run, reader, name, heads) for name, heads in fitting.items()}

    def measured(steps: int, **how: float) -> dict[str, float]:
        images = editor.set_image(photos, steps=steps, **how)
        w_plus = editor.w_plus.cpu()
        distance = run.lpips(photos, images).mean().item()
        results, pictures = [], []
        for name, judged in of_edits.items():
            delta = options.strength * editor.vectors[f"{name}{MEAN}"].delta_w_plus
            start = w_plus[judged.heads.numbers]
            judged.begin(editor.render(start))
            pictures.append(editor.render(start + delta))
            results.append(judged(pictures[-1]))
        success, leak = (sum(values) / len(values) for values in zip(*results, strict=True))
        kid = kernel_distance(measure(features, torch.cat(pictures), device=run.device), reals, seed=run.params.seed)
        return {"LPIPS-Alex": distance, "identity": run.identity(photos, images), "success": success,
                "leak x1e3": 1000 * leak, "KID x1e3": 1000 * float(kid)}  # fmt: skip

    found = {}
    for steps in options.steps:
        found[steps] = measured(steps)
        if len(found) == 1:
            header("steps", *found[steps])
        row(steps, *(f"{value:.3g}" for value in found[steps].values()))
    shipped = run.params.encoder.inversion_steps
    row(f"{shipped}, no pull", *(f"{value:.3g}" for value in measured(shipped, pull=0.0).values()))
    if options.picture:
        plot(options.picture, found)


if __name__ == "__main__":
    main()
