"""How many labels does the segmentation need? mIoU against the number of labelled heads, with the trained models.

    python benchmarks/labels.py [--outputs outputs] [--labels 1 2 4 8 16 32 64] [--draws 5] [--table FILE.json]
        [--picture labels.png]

A draw takes random heads of the pool, embedded as for stage `segmentation` (embeddings are stored next to the table); a
smaller set of a draw is the start of a larger one. Ensemble and training use `params.yaml`. mIoU is measured on the
exact masks of all test heads, which are used to choose nothing. Classes missing from a set of labels count with their
IoU of 0. Finished rows are stored in the table, so an interrupted run resumes; a table of other models or parameters is
rejected.
"""

import argparse
import json
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from editgan.config import load_params
from editgan.data.archive import count, load_classes, load_images, load_masks
from editgan.editor.editor import Editor
from editgan.encoder.encoder import load_latents
from editgan.encoder.inversion import invert
from editgan.images import to_float
from editgan.segmentation.metrics import segmentation_scores
from editgan.segmentation.predict import features_of, segment
from editgan.segmentation.training import train_ensemble
from editgan.training import generator_for
from editgan.weights import load_tensors, save_tensors, sha256, write_json

EMBEDDED = 20  # heads between two saves


def plot(path: Path, rows: list[dict], labels: list[int]) -> None:
    """mIoU against the number of labels: each draw a dot, their mean a line."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot([row["labels"] for row in rows], [row["miou"] for row in rows], "o", color="0.6", markersize=4)
    means = [np.mean([row["miou"] for row in rows if row["labels"] == count]) for count in labels]
    axes.plot(labels, means, "-o", color="tab:blue", label="mean of the draws")
    axes.set_xscale("log", base=2)
    axes.set_xticks(labels, [str(count) for count in labels])
    axes.set(xlabel="labelled heads", ylabel="mIoU of the test heads")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--labels", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--table", type=Path, default=Path("labels.json"))
    parser.add_argument("--picture", type=Path, default=Path("labels.png"), help="the table as a plot")
    options = parser.parse_args()
    params, data = load_params(options.params), options.outputs / "data"
    editor, names = Editor.load(options.outputs, params.runtime.device), load_classes(data / "classes.json").names
    made_by = {
        "generator": sha256(options.outputs / "generator" / "G_ema.safetensors"),
        "encoder": sha256(options.outputs / "encoder" / "E.safetensors"),
        "params": params.model_dump(mode="json", include={"seed", "encoder", "segmentation"}),
    }
    table = json.loads(options.table.read_text()) if options.table.exists() else {"made_by": made_by, "rows": []}
    if table["made_by"] != made_by:
        parser.error(f"{options.table}: of other models or parameters; delete it or name another --table")
    rows = table["rows"]
    heads = count(data / "pool.zip")
    if max(options.labels) > heads:
        parser.error(f"--labels {max(options.labels)}: the pool has {heads} heads")
    draws = [
        torch.randperm(heads, generator=generator_for(params.seed, "labels", draw))[: max(options.labels)].tolist()
        for draw in range(options.draws)
    ]
    wanted = sorted({head for draw in draws for head in draw})
    kept = options.table.with_suffix(".safetensors")
    embedded, of = load_tensors(kept) if kept.exists() else ({}, made_by)
    if of != made_by:
        embedded = {}
    missing = [head for head in wanted if str(head) not in embedded]
    for start in range(0, len(missing), EMBEDDED):
        part = missing[start : start + EMBEDDED]
        found = invert(
            editor.G,
            editor.E,
            editor.lpips_vgg,
            to_float(torch.as_tensor(load_images(data / "pool.zip", part))).to(editor.device),
            steps=params.encoder.inversion_steps,
            lr=params.encoder.inversion_lr,
        )
        embedded |= {str(head): w_plus for head, w_plus in zip(part, found.cpu(), strict=True)}
        save_tensors(kept, embedded, made_by)
        print(f"{start + len(part)} of {len(missing)} heads of the pool embedded", flush=True)
    test = load_latents(options.outputs / "encoder" / "latents.safetensors")["test"]
    truth = torch.as_tensor(load_masks(data / "test.zip", range(len(test))))
    masks = torch.as_tensor(load_masks(data / "pool.zip"))
    recipe = params.segmentation.model_dump(include={"members", "epochs", "lr"})
    for labels in options.labels:
        for draw, order in enumerate(draws):
            if any(row["labels"] == labels and row["draw"] == draw for row in rows):
                continue
            start, chosen = time.perf_counter(), order[:labels]
            w_plus = torch.stack([embedded[str(head)] for head in chosen])
            _, features = features_of(editor.G, w_plus, editor.device)
            labelled = masks[chosen].to(editor.device)
            ensemble = train_ensemble(features, labelled, class_names=names, seed=params.seed, **recipe)
            predicted, *_ = segment(editor.G, ensemble, test, editor.device)
            scores = segmentation_scores(predicted, truth, names)
            rows.append({"labels": labels, "draw": draw, "miou": scores.miou, "iou": scores.iou})
            write_json(options.table, table)
            print(
                f"{labels} labels, draw {draw}: mIoU {scores.miou:.3f}, {time.perf_counter() - start:.0f} s", flush=True
            )
    print(f"\n| labels | draws | mIoU, mean | spread | least | most |\n|---:|{'---:|' * 5}")
    for labels in options.labels:
        values = np.array([row["miou"] for row in rows if row["labels"] == labels])
        cells = f"{values.mean():.3f} | {values.std(ddof=1) if len(values) > 1 else 0:.3f}"
        print(f"| {labels} | {len(values)} | {cells} | {values.min():.3f} | {values.max():.3f} |")
    plot(options.picture, [row for row in rows if row["labels"] in options.labels], options.labels)
    print(f"\n{options.picture}: the same as a plot")


if __name__ == "__main__":
    main()
