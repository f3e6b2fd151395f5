"""Names of rows and columns of the benchmark for readers, and formatting of values."""

from collections.abc import Iterable

from editgan.data.protocol import Protocol, SmileProtocol
from editgan.methods.registry import CONDITIONAL, INTERFACEGAN, LOCALEDITING
from editgan.methods.smile import (
    DISTILLATION,
    EDITGAN,
    INPUT,
    MASKGAN,
    PLUS,
    RECONSTRUCTION,
    TRULY_SMILING,
)
from editgan.scoring.table import Column, Figure, Table

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
    Protocol.truth: "truly changed (ceiling)",
}
RUNGS = {  # rows of the embedding
    "encoder": "encoder alone",
    "encoder_and_optimisation": "encoder and optimisation",
    MASKGAN: "MaskGAN, generated from the exact masks",
}
METRICS = {  # metric -> heading, factor, decimals; in the order of the table's columns
    "smiling": ("% smiling, {network}", 1, 1),
    "changed": ("% changed, {network}", 1, 1),
    "kid": ("KID{samples}_{network}", 1000, 2),
    "fid": ("FID{samples}_{network}", 1, 2),
    "identity_relative": ("relative identity, {network}", 1, 3),
    "identity_to_reconstruction": ("identity to the reconstruction, {network}", 1, 3),
    "identity": ("identity to the photo, {network}", 1, 3),
    "similarity_relative": ("relative similarity, {network}", 1, 3),
    "similarity_to_reconstruction": ("similarity outside to the reconstruction, {network}", 1, 3),
    "similarity": ("similarity outside to the input, {network}", 1, 3),
    "lpips": ("LPIPS-Alex to truth", 1, 3),
    "l2": ("L2 to truth", 1000, 2),
    "mouth_iou": ("mouth IoU to truth, by the segmentation", 1, 3),
    "parts_iou": ("IoU of the parts to truth, by the segmentation", 1, 3),
    "leak_to_input": ("leak to input", 1000, 2),
    "leak_to_reconstruction": ("leak to reconstruction", 1000, 2),
    "segmentation_accuracy": ("% of pixels segmented as in truth", 1, 1),
    "embedding_lpips": ("LPIPS-Alex", 1, 3),
    "embedding_l2": ("L2", 1000, 2),
    "embedding_identity": ("identity to the photo, {network}", 1, 3),
    "embedding_similarity": ("similarity to the picture, {network}", 1, 3),
}
SMILING, IDENTITY = Column("smiling", "judge"), Column("identity", "mobilefacenet")  # the two that rank methods
WORDS = {  # of smiles, and of other classes
    "smile": ("smile", "change"),
    "smiling": ("smiling", "changed"),
    "identity": ("identity", "similarity"),
    "an identity": ("an identity", "a similarity"),
    "photo": ("photo", "input"),
    "heads": ("heads", "pictures"),
}
TRUTHS = (TRULY_SMILING, Protocol.truth)  # rows without an edit: the same thing with the attribute
NO_FIGURE = "\u2013"


def kind_of(columns: Iterable[Column]) -> type[Protocol]:
    """Whether these are columns of smiles (SmileProtocol) or of another class."""
    return Protocol if any(column.metric == Protocol.success for column in columns) else SmileProtocol


def ranked_by(table: Table) -> tuple[Column, Column]:
    """The two columns that rank methods: success by the judge, and what is kept. Smiles: `SMILING`, `IDENTITY`."""
    kind = kind_of(column for figures in table.values() for column in figures)
    return Column(kind.success, "judge"), Column(kind.kept, kind.kept_by)


def judges_of(columns: Iterable[Column]) -> list[str]:
    """The judges of success, in the order of their columns."""
    columns = list(columns)
    success = kind_of(columns).success
    return list(dict.fromkeys(column.network for column in columns if column.metric == success))


def word(text: str, table: Table) -> str:
    """A word of `WORDS` for the class of a table."""
    smiles, others = WORDS[text]
    return smiles if ranked_by(table)[0] == SMILING else others


def title_of(method: str) -> str:
    """Name of a method for readers: editgan_plus_30 -> EditGAN+30 (ours)."""
    return TITLES.get(method) or f"EditGAN+{method.removeprefix(f'{PLUS}_')} (ours)"


def is_refined(method: str) -> bool:
    """Whether a row is EditGAN+ after refinement, whose name depends on the steps. All other rows are listed."""
    return method not in TITLES and method not in RUNGS


def column_title(column: Column, samples: int) -> str:
    """Heading of a column, with the network and, if relevant, the sample count."""
    title, factor, _ = METRICS[column.metric]
    return title.format(network=column.network, samples=samples) + (" x1e3" if factor == 1000 else "")


def cell(figure: Figure | None, column: Column, *, interval: bool = True) -> str:
    """A formatted value, with its interval if it has one; a dash if there is no value."""
    if figure is None:
        return NO_FIGURE
    _, factor, digits = METRICS[column.metric]
    text = f"{factor * figure.value:.{digits}f}"
    if interval and figure.low is not None:
        text += f" [{factor * figure.low:.{digits}f}, {factor * figure.high:.{digits}f}]"
    return text
