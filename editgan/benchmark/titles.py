"""What rows and columns of the benchmark are called where people read them."""

from editgan.benchmark.methods import CONDITIONAL, INTERFACEGAN, LOCALEDITING, PLUS
from editgan.benchmark.smile import (
    DISTILLATION,
    EDITGAN,
    INPUT,
    MASKGAN,
    PASTED,
    RECONSTRUCTION,
    TRULY_SMILING,
)

TITLES = {
    INPUT: "input",
    RECONSTRUCTION: "reconstruction",
    EDITGAN: "EditGAN",
    PLUS: "EditGAN+ (ours)",
    INTERFACEGAN: "InterFaceGAN",
    CONDITIONAL: "InterFaceGAN, conditional",
    LOCALEDITING: "LocalEditing",
    DISTILLATION: "StyleGAN2 Distillation",
    MASKGAN: "MaskGAN",
    TRULY_SMILING: "truly smiling (ceiling)",
}
PREFIX_TITLES = (  # longest first: a column is named by the first prefix that fits
    ("smiling_", "% smiling, "),
    ("identity_to_reconstruction_", "identity to the reconstruction, "),
    ("identity_relative_", "relative identity, "),
    ("identity_", "identity to the photo, "),
    ("fid", "FID"),
    ("kid", "KID"),
)
COLUMN_TITLES = {
    "lpips_alex": "LPIPS-Alex to truth",
    "l2": "L2 to truth",
    "segmentation_accuracy": "% of pixels segmented as in truth",
    "mouth_iou_segmentation": "mouth IoU to truth, by the segmentation",
    "leak_to_input": "leak to input",
    "leak_to_reconstruction": "leak to reconstruction",
}
THOUSANDTHS = ("kid", "l2", "leak_")  # columns printed times 1,000


def title_of(row: str) -> str:
    """Name of a row as the papers write it, pasted back or not: editgan_30 -> EditGAN+30."""
    base = row.removesuffix(PASTED)
    return TITLES.get(base) or base.replace(f"{EDITGAN}_", "EditGAN+")


def column_title(column: str) -> str:
    """Heading of a column; the sample count and the network stay in it."""
    title = COLUMN_TITLES.get(column)
    if title is None:
        title = next(
            words + column.removeprefix(prefix) for prefix, words in PREFIX_TITLES if column.startswith(prefix)
        )
    return f"{title} x1e3" if column.startswith(THOUSANDTHS) else title
