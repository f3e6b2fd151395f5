"""Data for a generator's model card beyond stage `samples`: truncation, and attributes that are linear in W.

    python benchmarks/generator_card.py outputs/generator/G_ema.safetensors [other/G_ema.safetensors] [--samples 1000]

Truncation: KID, precision and recall (k = 3) of samples at decreasing truncation_psi, with both feature networks.

Linearity: a small network learns from the true attributes of the training heads whether a picture smiles, wears
glasses, has long hair, or looks to the left. It classifies samples; the confident ones (above .9 or below .1) are
labels for a logistic regression on w. The table shows the balanced accuracy of that regression on held-out samples (.5
is chance). An attribute that is linear in W can be edited by a vector in W. Two generators are compared with the same
classifier.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from editgan.assets.inference import for_inference
from editgan.assets.load import load_network
from editgan.data.archive import load_attributes, load_images
from editgan.generator.generator import Generator, load_generator
from editgan.images import to_float, to_uint8
from editgan.judges.quality import measure
from editgan.metrics import kernel_distance, precision_and_recall
from editgan.samples.stage import FEATURES, SECOND_FEATURES, standardised_by
from editgan.training import generator_for, seed_everything

PSIS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
ATTRIBUTES = {
    "smile": lambda row: row["smile"] >= 0.35,
    "glasses": lambda row: row["glasses"] != "none",
    "long hair": lambda row: row["hair_style"] in ("long", "long fringe", "bob"),
    "yaw": lambda row: row["yaw"] > 0,
}
SURE = 0.9
WIDTHS = (24, 48, 96, 96)
EPOCHS, BATCH, RATE = 4, 64, 2e-3
HELD_OUT = 2000  # training heads that the reader is judged on


def reader_network() -> nn.Module:
    """Images [N, 3, 64, 64] -> logits [N, 4]."""
    layers, channels = [], 3
    for width in WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(len(ATTRIBUTES)))


def train_reader(images: Tensor, labels: Tensor) -> tuple[nn.Module, list[float]]:
    """The reader, and by attribute its balanced accuracy on held-out heads; uint8 [N, 3, H, W], labels [N, 4]."""
    seed_everything(0, "card", "reader")
    network = reader_network()
    network(to_float(images[:2]))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    steps, known = EPOCHS * ((len(images) - HELD_OUT) // BATCH), len(images) - HELD_OUT
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        rows = torch.randint(known, (BATCH,))
        loss = F.binary_cross_entropy_with_logits(network(to_float(images[rows])), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(f"reader: step {step} of {steps}, loss {loss.item():.3f}", flush=True)
    network.eval().requires_grad_(False)
    said = measure(network, images[known:]) > 0
    truth = labels[known:] > 0.5
    return network, [balanced_accuracy_score(truth[:, k], said[:, k]) for k in range(len(ATTRIBUTES))]


@torch.no_grad()
def drawn(G: Generator, count: int, psi: float = 1.0) -> tuple[Tensor, Tensor]:
    """(w [count, w_dim], images uint8 [count, 3, H, W]) of seeded z."""
    z = torch.randn(count, G.z_dim, generator=generator_for(0, "card", "z"))
    ws, images = [], []
    for part in z.split(50):
        rows = G.mapping(part, psi)
        ws.append(rows[:, 0])
        images.append(to_uint8(G.synthesis(rows)))
    return torch.cat(ws), torch.cat(images)


def truncation_table(G: Generator, reals: Tensor, count: int) -> list[str]:
    networks = {
        FEATURES: for_inference(load_network(FEATURES)),
        SECOND_FEATURES: for_inference(load_network("lpips_alex")).spread,
    }
    known = {name: measure(network, reals[:count], batch=16) for name, network in networks.items()}
    heads = " | ".join(f"KID{count} x1e3, precision, recall by {name}" for name in networks)
    lines = [f"| truncation_psi | {heads} |", "|---:|" + "---:|" * len(networks)]
    for psi in PSIS:
        _, images = drawn(G, count, psi)
        cells = []
        for name, network in networks.items():
            scale = standardised_by(known[name]) if name == SECOND_FEATURES else lambda rows: rows
            mine, real = scale(measure(network, images, batch=16)), scale(known[name])
            precision, recall = precision_and_recall(mine.float(), real.float(), 3)
            cells.append(f"{1000 * kernel_distance(mine, real):.1f}, {precision:.2f}, {recall:.2f}")
        lines.append(f"| {psi:g} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def readability(G: Generator, reader: nn.Module, count: int) -> list[str]:
    """Of each attribute balanced accuracy of a line in W, and the share of samples that the reader is sure of."""
    w, images = drawn(G, count)
    said = measure(reader, images).sigmoid()
    cells = []
    for k in range(len(ATTRIBUTES)):
        sure = (said[:, k] > SURE) | (said[:, k] < 1 - SURE)
        x, y = w[sure].numpy(), (said[sure, k] > 0.5).numpy()
        half = len(x) // 2
        if min(y[:half].sum(), half - y[:half].sum(), y[half:].sum(), len(y) - half - y[half:].sum()) < 10:
            cells.append(f"too few of either kind ({int(y.sum())} of {len(y)})")
            continue
        line = LogisticRegression(max_iter=2000, C=0.1).fit(x[:half], y[:half])
        found = balanced_accuracy_score(y[half:], line.predict(x[half:]))
        cells.append(f"{found:.3f} (sure of {sure.double().mean():.0%}, {y.mean():.0%} yes)")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generators", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=1000, help="for each row of truncation; four times for W")
    parser.add_argument("--training", type=Path, required=True, help="folder of train.zip and train_labels.zip")
    options = parser.parse_args()
    images = torch.from_numpy(load_images(options.training / "train.zip"))
    rows = load_attributes(options.training / "train_labels.zip")
    labels = torch.tensor([[float(holds(row)) for holds in ATTRIBUTES.values()] for row in rows])
    reader, accuracy = train_reader(images, labels)
    table = ["| | " + " | ".join(ATTRIBUTES) + " |", "|---|" + "---:|" * len(ATTRIBUTES)]
    table.append(
        "| the reader itself, on heads it did not learn from | " + " | ".join(f"{a:.3f}" for a in accuracy) + " |"
    )
    tables = []
    for path in options.generators:
        G = load_generator(path)
        table.append(f"| {path} | " + " | ".join(readability(G, reader, 4 * options.samples)) + " |")
        tables += [f"\n{path}\n", *truncation_table(G, images, options.samples)]
    print("\n".join(["", *table, *tables]))


if __name__ == "__main__":
    main()
