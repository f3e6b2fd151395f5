"""Quality of the judges on our data: the table printed above every table of their results."""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from editgan.data.protocol import Protocol
from editgan.images import to_float

SMILE_THRESHOLD = 0.5  # a picture counts as smiling from this probability on
ROLES = dict.fromkeys(("mobilefacenet", "judge", "face_api_expression", "fer"), "judges")
ROLES |= dict.fromkeys(("dlib_resnet", "guide"), "guides training")


@torch.no_grad()
def measure(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    device: torch.device | str = "cpu",
    batch: int = 50,
    on_batch: Callable[[int], None] | None = None,
) -> Tensor:
    """Apply a network to uint8 images [N, 3, H, W] batch by batch -> float64 [N, ...] on the CPU.

    `function` gets float images in [-1, 1]; `on_batch` gets the number of images done.
    """
    parts = []
    for start in range(0, len(images), batch):
        x = to_float(images[start : start + batch]).to(device).contiguous(memory_format=torch.channels_last)
        parts.append(function(x).to("cpu", torch.float64))
        if on_batch is not None:
            on_batch(min(start + batch, len(images)))
    return torch.cat(parts)


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosine similarity of every row of [N, D] with every row of [M, D] -> [N, M]."""
    return torch.nn.functional.normalize(first, dim=1) @ torch.nn.functional.normalize(second, dim=1).T


def identity_quality(neutral: Tensor, smiling: Tensor, identities: list[int]) -> dict[str, float]:
    """How well a face feature identifies people across a smile: cosines of pairs, and their area under the ROC curve.

    neutral, smiling: features [N, D] of the same N heads, without and with a smile; identities: person of each head.
    """
    from torchmetrics.functional.classification import binary_auroc  # imports torchvision: seconds

    cosine, people = cosines(neutral, smiling), torch.tensor(identities)  # [N, N], [N]
    different = people[:, None] != people[None, :]  # [N, N]
    same_pairs, different_pairs = cosine.diagonal(), cosine[different]
    scores = (torch.cat([same_pairs, different_pairs]) + 1) / 2  # torchmetrics expects scores in 0..1
    target = torch.cat([torch.ones(len(same_pairs)), torch.zeros(len(different_pairs))]).long()
    return {
        "auc": float(binary_auroc(scores.clamp(0, 1), target)),
        "same_mean": float(same_pairs.mean()),
        "different_mean": float(different_pairs.mean()),
        "gap": float(same_pairs.mean() - different_pairs.mean()),
        "same_pairs": len(same_pairs),
        "different_pairs": len(different_pairs),
    }


def smile_quality(probability: Tensor, smiling: Tensor) -> dict[str, float]:
    """Area under the ROC curve of probabilities [N] for labels, bool [N]; accuracy and shares at SMILE_THRESHOLD."""
    from torchmetrics.functional.classification import binary_accuracy, binary_auroc  # imports torchvision: seconds

    called = probability >= SMILE_THRESHOLD
    return {
        "auc": float(binary_auroc(probability, smiling.long())),
        "accuracy": float(binary_accuracy(called.long(), smiling.long())),
        "called_smiling_of_neutral": float(called[~smiling].double().mean()),
        "called_smiling_of_smiling": float(called[smiling].double().mean()),
        "heads": len(probability),
    }


def agreement(probabilities: dict[str, Tensor]) -> dict[str, float]:
    """Share of pictures on which each pair of smile networks agrees: {"fer/judge": 0.97, ...}."""
    called = {name: probability >= SMILE_THRESHOLD for name, probability in sorted(probabilities.items())}
    return {f"{a}/{b}": float((called[a] == called[b]).double().mean()) for a, b in combinations(called, 2)}


def quality_table(metrics: dict, *, rendered: bool) -> str:
    """The metrics of stage `judges` as Markdown. Pairs, where there are any, are `rendered` heads or photographs."""
    agreed = ", ".join(f"{pair} {100 * share:.1f} %" for pair, share in metrics["agreement"].items())
    smile = metrics["smile"].items()
    if not metrics["identity"]:
        return "\n".join([
            f"Judges measured on {metrics['val_heads']} labelled validation pictures. There are no pairs of the same"
            " person neutral and smiling and otherwise identical, so the identity networks are not measured. Smile"
            f" networks call a picture smiling if P >= {SMILE_THRESHOLD:g}:",
            "",
            *_table(
                ("smile network", "AUC", "accuracy", "neutral ones called smiling", "smiling ones called smiling"),
                {name: _smile_cells(row["val"]) for name, row in smile},
            ),
            "",
            f"Pairwise agreement of the smile networks: {agreed}.\n",
        ])  # fmt: skip
    pair = "each person photographed neutral and smiling"
    if rendered:
        pair = "each rendered neutral and smiling and otherwise identical"
    requirements = ["", f"Requirements for rendered heads: {'; '.join(goals(metrics))}."] if rendered else []
    return "\n".join([
        f"Judges measured on {metrics['test_heads']} test heads, {pair},"
        f" and on {metrics['val_heads']} validation heads with clear labels"
        f" (smile of at least {metrics['smile_threshold']:g}, or 0; intermediate values are left out).",
        "",
        *_table(
            ("identity network", "same person, neutral to smiling", "different people", "gap", "AUC", "pairs"),
            {name: _identity_cells(row) for name, row in metrics["identity"].items()},
        ),
        "",
        f"Mean cosines. Smile networks call a head smiling if P >= {SMILE_THRESHOLD:g}:",
        "",
        *_table(
            ("smile network", "AUC test", "accuracy test", "neutral heads called smiling",
             "smiling heads called smiling", "AUC validation", "accuracy validation"),
            {name: [*_smile_cells(row["test"]), *_smile_cells(row["val"])[:2]] for name, row in smile},
        ),
        *requirements,
        "",
        f"Pairwise agreement of the smile networks on the test heads, neutral and smiling: {agreed}.\n",
    ])  # fmt: skip


def classifier_table(metrics: dict, protocol: Protocol) -> str:
    """The metrics of stage `judges` of a class without faces, as Markdown."""
    pairs = {name: row["test"] for name, row in metrics["smile"].items() if "test" in row}
    found = {name: [*_smile_cells(row)] for name, row in pairs.items()}
    val = {name: _smile_cells(row["val"])[:2] for name, row in metrics["smile"].items()}
    agreed = ", ".join(f"{pair} {100 * share:.1f} %" for pair, share in metrics["agreement"].items())
    titles = ("classifier", "AUC validation", "accuracy validation")
    if pairs:
        titles = ("classifier", "AUC test", "accuracy test", "called so without it", "called so with it", *titles[1:])
    on = f", and on {metrics['test_heads']} test pictures without it and the same ones with it" if pairs else ""
    return "\n".join([
        f"Classifiers of `{protocol.attribute}` measured on {metrics['val_heads']} validation pictures (without it: at"
        f" most {protocol.low:g}; with it: at least {protocol.high:g}; values in between are left out){on}. A picture"
        f" is called so if P >= {SMILE_THRESHOLD:g}:",
        "",
        *_table(titles, {name: [*found.get(name, ()), *cells] for name, cells in val.items()}),
        "",
        f"Agreement: {agreed}.\n",
    ])  # fmt: skip


def _table(titles: tuple[str, ...], cells: dict[str, list[str]]) -> list[str]:
    """Markdown with one row for each network; column `role` follows the first.

    By hand, because `tabulate` pads the cells: a longer name would change every line of quality.md.
    """
    rows = [(titles[0], "role", *titles[1:]), ["---"] * (len(titles) + 1)]
    rows += [(name, ROLES[name], *row) for name, row in cells.items()]
    return [f"| {' | '.join(row)} |" for row in rows]


def _identity_cells(quality: dict[str, float]) -> list[str]:
    means = [f"{quality[key]:.3f}" for key in ("same_mean", "different_mean", "gap")]
    return [*means, f"{quality['auc']:.4f}", f"{quality['same_pairs']} / {quality['different_pairs']}"]


def _smile_cells(quality: dict[str, float]) -> list[str]:
    shares = ("accuracy", "called_smiling_of_neutral", "called_smiling_of_smiling")
    return [f"{quality['auc']:.4f}", *(f"{100 * quality[share]:.1f} %" for share in shares)]


def goals(metrics: dict) -> list[str]:
    """Requirements that the pretrained judges must meet on the heads for a meaningful benchmark, with results."""
    identity, smile = metrics["identity"]["mobilefacenet"], metrics["smile"]
    different = identity["different_mean"]
    at_least = {
        "identity AUC of at least 0.99": (identity["auc"], 0.99),
        "gap of at least 0.40 between same and different people": (identity["gap"], 0.40),
        "smile AUC of face_api_expression of at least 0.99": (smile["face_api_expression"]["test"]["auc"], 0.99),
        "smile AUC of fer of at least 0.99": (smile["fer"]["test"]["auc"], 0.99),
    }
    answers = [(what, value, value >= bound) for what, (value, bound) in at_least.items()]
    answers.append(("mean cosine of different people of at most 0.35", different, different <= 0.35))
    return [f"{what}: {'met' if met else 'missed'} ({value:.3f})" for what, value, met in answers]
