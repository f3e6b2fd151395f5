"""Evidence that each method's own network learned its task, from the metrics of its stage."""

import re

from editgan.methods.smile import DISTILLATION, MASKGAN


def proofs(trained: dict[str, dict[str, float]]) -> dict[str, str]:
    """Results of each method's own network on held-out data of its training task."""
    pairs = trained[DISTILLATION]
    count, smiling = _counted(pairs, "smiling_guide_val")
    (_, sources), (_, targets) = (_counted(pairs, "smiling_guide_val", end) for end in ("_sources", "_targets"))
    (_, l1), (_, unchanged) = (_counted(pairs, "l1_val", end) for end in ("", "_unchanged"))
    found = {
        DISTILLATION: f"on {count} held-out pairs of samples the guide calls {100 * smiling:.1f} % of its outputs"
        f" smiling (of the targets {100 * targets:.1f} %, of the sources {100 * sources:.1f} %); L1 to the targets"
        f" {l1:.3f}, of the unchanged sources to the targets {unchanged:.3f}",
    }
    return found | ({MASKGAN: proof_of_maskgan(trained[MASKGAN])} if MASKGAN in trained else {})


def proof_of_maskgan(heads: dict[str, float]) -> str:
    """How well MaskGAN reproduces photos and follows masks."""
    drawn, lpips = _counted(heads, "lpips_vgg_val")
    (_, parsed), (_, distance) = _counted(heads, "lpips_vgg_val", "_parsed"), _counted(heads, "l1_val")
    (_, right), (_, of_photos) = (_counted(heads, "segmentation_accuracy_val", end) for end in ("", "_photos"))
    rest, followed = _counted(heads, "segmentation_accuracy_val", "_smiles")
    _, mouth = _counted(heads, "mouth_iou_val", "_smiles")
    return (
        f"{drawn} validation heads generated from their own masks: LPIPS-VGG {lpips:.3f} (a training loss) and L1"
        f" {distance:.3f} to the photos, LPIPS-VGG {parsed:.3f} with masks that a parser predicts from the photos. The"
        " parser, trained on the same training heads, labels"
        f" {100 * right:.1f} % of the generated pixels as in the input masks ({100 * of_photos:.1f} % on the photos"
        f" themselves); with smiling masks of {rest} neutral heads {100 * followed:.1f} %, with a mouth IoU of"
        f" {mouth:.3f}"
    )


def _counted(metrics: dict[str, float], start: str, end: str = "") -> tuple[int, float]:
    """Sample count and value of the metric named `start`, count, `end`."""
    name = next(name for name in metrics if re.fullmatch(rf"{start}\d+{end}", name))
    return int(name.removeprefix(start).removesuffix(end)), metrics[name]
