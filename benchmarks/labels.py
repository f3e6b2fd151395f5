"""How many labels does the segmentation need? mIoU against the number of labelled heads, with the trained models.

    python benchmarks/labels.py [--labels 1 2 4 8 16 32 64] [--draws 5] [--smiling 100] [--choices 20]
        [--kept FILE.safetensors] [--picture FILE.png]

A draw takes random heads of the pool, embedded as in stage `encoder`. The smaller sets of a draw are the first heads of
the larger ones. mIoU is measured on the exact masks of all test heads, and no setting is chosen on these. Classes
missing from a set of labels count with an IoU of 0. The first table is the shipped segmentation by class, on all
neutral test heads and on the first `--smiling` of the same heads smiling. With `--labels 320`, the last row of the
second table is the bound of full supervision; above 64 labels, the number of training steps is that of 64.

The last table compares `--choices` random draws, each with as many heads as the shipped segmentation has labels, with
the heads that `editgan suggest` chooses from the pool without masks.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from measuring import Trained, header, row, trained_command_line
from torch import Tensor

from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.metrics import SegmentationScores, segmentation_scores
from editgan.segmentation.predict import features_of, predict_masks
from editgan.segmentation.suggest import picture_features, suggest
from editgan.segmentation.train import train_ensemble
from editgan.training import generator_for

MOST_STEPS = 64  # number of labels from which on the number of training steps is constant


def learned(run: Trained, w_plus: Tensor, masks: Tensor, names: Sequence[str], **changes: int) -> SegmentationEnsemble:
    """A segmentation trained as in its stage, from latents [N, num_ws, w_dim] and their masks, uint8 [N, H, W]."""
    _, features = features_of(run.editor.G, w_plus, run.device)
    recipe = run.params.segmentation.model_dump(include={"members", "epochs", "lr"}) | {"seed": run.params.seed}
    recipe["epochs"] = max(1, round(recipe["epochs"] * min(1, MOST_STEPS / len(masks))))
    return train_ensemble(features, masks.to(run.device), class_names=names, **recipe | changes)


def drawn(run: Trained, purpose: str, count: int, draws: int) -> list[list[int]]:
    """Random orders of `count` labelled pictures, one per draw."""
    return [torch.randperm(count, generator=generator_for(run.params.seed, purpose, i)).tolist() for i in range(draws)]


def plot(path: Path, found: dict[int, list[SegmentationScores]]) -> None:
    """Plot mIoU against the number of labels: a dot per draw, and the line of the means."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for count, scores in found.items():
        axes.plot([count] * len(scores), [each.miou for each in scores], "o", color="0.6", markersize=4)
    means = [np.mean([each.miou for each in scores]) for scores in found.values()]
    axes.plot(list(found), means, "-o", color="tab:blue", label="mean of the draws")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(found), [str(count) for count in found])
    axes.set(xlabel="labelled heads", ylabel="mIoU of the test heads")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--labels", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--smiling", type=int, default=100, help="number of smiling test heads")
    parser.add_argument("--choices", type=int, default=20, help="random draws to compare with `editgan suggest`")
    parser.add_argument("--kept", type=Path, default=Path("labels.safetensors"), help="file that stores the embeddings")
    parser.add_argument("--picture", type=Path, default=Path("labels.png"), help="output file of the plot")
    options = parser.parse_args()
    run = Trained(options)
    masks, most = run.masks("pool"), max(options.labels)
    if most > len(masks):
        parser.error(f"--labels {most}: the pool has {len(masks)} heads")
    few = run.params.segmentation.labelled_images
    draws = [order[:most] for order in drawn(run, "labels", len(masks), options.draws)]
    random = [order[:few] for order in drawn(run, "choices", len(masks), options.choices)]
    pictures = run.images("pool", range(len(masks)))
    suggested = suggest(picture_features(run.editor.lpips_vgg, pictures, run.device), few, seed=run.params.seed)
    heads = sorted({head for order in [*draws, *random, suggested] for head in order})
    w_plus = dict(zip(heads, run.embedded(run.images("pool", heads), options.kept), strict=True))
    test = run.latents("test")
    truth, names = run.masks("test", range(len(test))), run.editor.class_names
    smiling = run.embedded(run.images("test_smiling", range(options.smiling)), options.kept)
    of_smiling = run.masks("test_smiling", range(options.smiling))

    def scores_of(S: SegmentationEnsemble) -> tuple[SegmentationScores, SegmentationScores]:
        """Scores on the neutral and on the smiling test heads."""
        pairs = (test, truth), (smiling, of_smiling)
        return tuple(segmentation_scores(predict_masks(run.editor.G, S, w), masks, names) for w, masks in pairs)

    header("shipped segmentation", f"{len(test)} neutral", f"{len(smiling)} smiling")
    neutral, smiles = scores_of(run.editor.S)
    row("mIoU", f"{neutral.miou:.3f}", f"{smiles.miou:.3f}")
    for name in names:
        row(name, *(f"{scores.iou[name]:.2f}" if name in scores.iou else "-" for scores in (neutral, smiles)))
    print()
    header("labels", "draws", "mIoU, mean", "spread", "least", "most", "smiling heads, mean")
    found = {}
    for count in options.labels:
        found[count], of_smiles = [], []
        for order in draws:
            S = learned(run, torch.stack([w_plus[head] for head in order[:count]]), masks[order[:count]], names)
            neutral, smiles = scores_of(S)
            found[count].append(neutral)
            of_smiles.append(smiles.miou)
        values = np.array([scores.miou for scores in found[count]])
        spread = values.std(ddof=1) if len(values) > 1 else 0
        shown = values.mean(), spread, values.min(), values.max(), np.mean(of_smiles)
        row(count, len(values), *(f"{value:.3f}" for value in shown))
    print()
    header(f"{few} labelled heads", "mIoU, mean", "spread", "least", "most", "smiling heads, mean")
    for choice, orders in (("random", random), ("editgan suggest", [suggested])):
        pairs = [scores_of(learned(run, torch.stack([w_plus[head] for head in order]), masks[order], names))
                 for order in orders]  # fmt: skip
        values, smiles = (np.array([scores.miou for scores in half]) for half in zip(*pairs, strict=True))
        spread = values.std(ddof=1) if len(values) > 1 else 0
        row(choice, *(f"{value:.3f}" for value in (values.mean(), spread, values.min(), values.max(), smiles.mean())))
    plot(options.picture, found)
    print(f"\n{options.picture}: the same as a plot")


if __name__ == "__main__":
    main()
