"""Data for a generator's model card in addition to stage `samples`: truncation, and attributes that are linear in W.

    python benchmarks/generator_card.py outputs/generator/G_ema.safetensors [other/G_ema.safetensors] --training FOLDER
        [--samples 1000] [--pictures docs/generator]

Pictures: 64 samples of the first generator without truncation; KID, precision and recall over its training, from the
stats.jsonl in the same folder, and against truncation.

Truncation: FID, KID, precision and recall of samples, with both feature networks.

Linearity: a small network, the reader, learns attributes from the training heads and classifies samples. Its confident
predictions are the labels for a logistic regression on w. The table shows the balanced accuracy of the regression on
held-out samples (0.5 is chance). An attribute that is linear in W can be edited by a vector in W.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from measuring import command_line, header, row
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from editgan.data.archive import load_attributes, load_images
from editgan.generator.generator import Generator, load_generator, synthesise
from editgan.images import image_grid, to_float
from editgan.judges.quality import measure
from editgan.runtime.tracking import Run
from editgan.samples.stage import compare
from editgan.training import generator_for, in_batches, seed_everything

CPU = torch.device("cpu")
PSIS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
ATTRIBUTES = {
    "smile": lambda head: head["smile"] >= 0.35,
    "glasses": lambda head: head["glasses"] != "none",
    "long hair": lambda head: head["hair_style"] in ("long", "long fringe", "bob"),
    "yaw": lambda head: head["yaw"] > 0,
}
SURE = 0.9  # probability from which on the reader is confident
LEAST = 10  # minimum number of samples of each class in each half
WIDTHS = (24, 48, 96, 96)
EPOCHS, BATCH, LR = 4, 64, 2e-3
HELD_OUT = 2000  # training heads for measuring the reader


def reader_network() -> nn.Module:
    """Images [N, 3, 64, 64] -> logits [N, 4]."""
    layers, channels = [], 3
    for width in WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(len(ATTRIBUTES)))


def train_reader(images: Tensor, labels: Tensor) -> tuple[nn.Module, list[float]]:
    """The reader, its balanced accuracy per attribute on held-out heads; images uint8 [N, 3, H, W], labels [N, 4]."""
    seed_everything(0, "card", "reader")
    network = reader_network()
    network(to_float(images[:2]))
    optimizer, known = torch.optim.AdamW(network.parameters(), lr=LR), len(images) - HELD_OUT
    steps = EPOCHS * (known // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(known, (BATCH,))
        loss = F.binary_cross_entropy_with_logits(network(to_float(images[rows])), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval().requires_grad_(False)
    found, truth = measure(network, images[known:]) > 0, labels[known:] > 0.5
    return network, [balanced_accuracy_score(truth[:, k], found[:, k]) for k in range(len(ATTRIBUTES))]


def drawn(G: Generator, count: int, psi: float = 1.0) -> tuple[Tensor, Tensor]:
    """(w [count, w_dim], images uint8 [count, 3, H, W]) of seeded z."""
    z = torch.randn(count, G.z_dim, generator=generator_for(0, "card", "z"))
    w_plus = in_batches(lambda part: G.mapping(part, psi), z, batch=50, device=CPU)
    return w_plus[:, 0], synthesise(G, w_plus, batch=50)


def truncation_table(path: Path, reals: Tensor, count: int) -> dict[float, dict[str, float]]:
    """Print FID, KID, precision and recall as in stage `samples`; returns them by truncation_psi."""
    G, seed = load_generator(path), SimpleNamespace(seed=0)
    context = SimpleNamespace(params=seed, device=CPU, input=lambda stage: Path("outputs") / stage, run=Run("card"))
    found = compare(reals[:count], {f"{psi:g}": drawn(G, count, psi)[1] for psi in PSIS}, context)
    header(f"{path}, truncation_psi", *found["1"])
    for psi, figures in found.items():
        row(psi, *(f"{value:.4g}" for value in figures.values()))
    return {float(psi): figures for psi, figures in found.items()}


def draw_truncation(found: dict[float, dict[str, float]], folder: Path) -> None:
    """truncation.png: KID, precision and recall against truncation_psi, a curve for each feature network."""
    figure = Figure(figsize=(12, 2.8), layout="constrained")
    for index, metric in enumerate(("kid", "precision", "recall"), start=1):
        axes = figure.add_subplot(1, 3, index, xlabel="truncation_psi", title=metric)
        for name in (name for name in found[PSIS[0]] if name.startswith(metric)):
            axes.plot(PSIS, [found[psi][name] for psi in PSIS], "-o", markersize=3, label=name)
        axes.set_yscale("log" if metric == "kid" else "linear")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(folder / "truncation.png", dpi=80)


def readability(G: Generator, reader: nn.Module, count: int) -> list[str]:
    """For each attribute, the regression's balanced accuracy and the share of samples with a confident prediction."""
    w, images = drawn(G, count)
    probability = measure(reader, images).sigmoid()
    cells = []
    for k in range(len(ATTRIBUTES)):
        sure = (probability[:, k] > SURE) | (probability[:, k] < 1 - SURE)
        x, y = w[sure].numpy(), (probability[sure, k] > 0.5).numpy()
        half = len(x) // 2
        if min(min(part.sum(), len(part) - part.sum()) for part in (y[:half], y[half:])) < LEAST:
            cells.append(f"too few of one class ({int(y.sum())} of {len(y)})")
            continue
        line = LogisticRegression(max_iter=2000, C=0.1).fit(x[:half], y[:half])
        found = balanced_accuracy_score(y[half:], line.predict(x[half:]))
        cells.append(f"{found:.3f} (confident on {sure.double().mean():.0%}, {y.mean():.0%} positive)")
    return cells


def draw_pictures(path: Path, folder: Path, images_per_second: float) -> None:
    """samples.jpg and training.png; the speed of the training gives the minutes of its curves."""
    folder.mkdir(parents=True, exist_ok=True)
    _, images = drawn(load_generator(path), 64)
    image_grid(images, columns=8, scale=2).save(folder / "samples.jpg", quality=90)
    rows = [json.loads(line) for line in (path.parent / "stats.jsonl").read_text().splitlines()]
    measured = [line for line in rows if any(name.startswith("kid") for name in line)]
    names = sorted(name for name in measured[0] if name.startswith(("kid", "precision", "recall")))
    figure = Figure(figsize=(4 * len(names), 2.8), layout="constrained")
    for index, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), index, xlabel="kimg", title=name)
        axes.plot([line["kimg"] for line in measured], [line[name] for line in measured])
        axes.set_yscale("log" if name.startswith("kid") else "linear")
        minutes = 1000 / images_per_second / 60  # of a kimg
        above = axes.secondary_xaxis("top", functions=(lambda k, m=minutes: k * m, lambda m, n=minutes: m / n))
        above.set_xlabel("minutes")
        axes.grid(alpha=0.3, which="both")
    figure.savefig(folder / "training.png", dpi=80)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("generators", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=1000, help="samples per truncation; 4 x as many for linearity")
    parser.add_argument("--training", type=Path, required=True, help="folder of train.zip and train_labels.zip")
    parser.add_argument("--pictures", type=Path, help="folder for samples.jpg, training.png and truncation.png")
    parser.add_argument("--images-per-second", type=float, default=46.0, help="speed of the training")
    options = parser.parse_args()
    if options.pictures:
        draw_pictures(options.generators[0], options.pictures, options.images_per_second)
    images = torch.from_numpy(load_images(options.training / "train.zip"))
    heads = load_attributes(options.training / "train_labels.zip")
    labels = torch.tensor([[float(holds(head)) for holds in ATTRIBUTES.values()] for head in heads])
    reader, accuracy = train_reader(images, labels)
    header("", *ATTRIBUTES)
    row("the reader itself, on held-out heads", *(f"{found:.3f}" for found in accuracy))
    for path in options.generators:
        row(path, *readability(load_generator(path), reader, 4 * options.samples))
    tables = [truncation_table(path, images, options.samples) for path in options.generators]
    if options.pictures:
        draw_truncation(tables[0], options.pictures)


if __name__ == "__main__":
    main()
