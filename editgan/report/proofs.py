"""That each method with a network of its own learned what it was trained for, from what its stage measured."""

import re

from editgan.methods.smile import DISTILLATION, MASKGAN


def proofs(trained: dict[str, dict[str, float]]) -> dict[str, str]:
    """What each method with a network of its own reaches at what it was trained for, on what it did not see."""
    pairs = trained[DISTILLATION]
    count, smiling = _counted(pairs, "smiling_guide_val")
    (_, sources), (_, targets) = (_counted(pairs, "smiling_guide_val", end) for end in ("_sources", "_targets"))
    (_, l1), (_, unchanged) = (_counted(pairs, "l1_val", end) for end in ("", "_unchanged"))
    found = {
        DISTILLATION: f"on {count} held-out pairs of samples the guide calls {100 * smiling:.1f} % of its outputs"
        f" smiling (of the targets {100 * targets:.1f} %, of the sources {100 * sources:.1f} %); L1 to the targets"
        f" {l1:.3f}, that of the unchanged sources {unchanged:.3f}",
    }
    return found | ({MASKGAN: proof_of_maskgan(trained[MASKGAN])} if MASKGAN in trained else {})


def proof_of_maskgan(heads: dict[str, float]) -> str:
    """How near it draws faces to their photos and masks."""
    drawn, lpips = _counted(heads, "lpips_vgg_val")
    (_, parsed), (_, distance) = _counted(heads, "lpips_vgg_val", "_parsed"), _counted(heads, "l1_val")
    (_, right), (_, of_photos) = (_counted(heads, "segmentation_accuracy_val", end) for end in ("", "_photos"))
    rest, followed = _counted(heads, "segmentation_accuracy_val", "_smiles")
    _, mouth = _counted(heads, "mouth_iou_val", "_smiles")
    return (
        f"{drawn} validation heads drawn again from their own masks lie at an LPIPS-VGG of {lpips:.3f}"
        f" (which trained it) and an L1 of {distance:.3f} from the photos, at an LPIPS-VGG of {parsed:.3f} where a"
        " parser reads the masks from the photos. That parser, which learned from the same training heads, sees"
        f" {100 * right:.1f} % of the pixels drawn as their masks want them (of the photos' own"
        f" {100 * of_photos:.1f} %); of the smiles of {rest} heads at rest {100 * followed:.1f} %, and their mouths"
        f" with an IoU of {mouth:.3f}"
    )


def _counted(metrics: dict[str, float], start: str, end: str = "") -> tuple[int, float]:
    """Sample count and value of the figure named `start`, count, `end`."""
    name = next(name for name in metrics if re.fullmatch(rf"{start}\d+{end}", name))
    return int(name.removeprefix(start).removesuffix(end)), metrics[name]
