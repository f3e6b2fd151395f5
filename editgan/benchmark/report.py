"""The benchmark as a Markdown table with what a reader must know beside it, and as a picture."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from editgan.benchmark.budgets import budgets
from editgan.benchmark.envelope import envelope_at
from editgan.benchmark.methods import INTERFACEGAN
from editgan.benchmark.proofs import proofs
from editgan.benchmark.scores import Scores
from editgan.benchmark.smile import (
    DISTILLATION,
    FROM_PHOTOS,
    MASKGAN,
    PASTED,
    RECONSTRUCTION,
    ROOM,
    refined_name,
)
from editgan.benchmark.titles import THOUSANDTHS, column_title, title_of
from editgan.benchmark.verdict import verdict
from editgan.images import labelled_grid
from editgan.judges.quality import SMILE_THRESHOLD
from editgan.metrics import percentile_interval

Row = TypeVar("Row")
EMBEDDING_TITLES = {"lpips_alex": "LPIPS-Alex", "l2": "L2 x1e3"}
RUNGS = {
    "encoder": "encoder alone",
    "encoder_and_optimisation": "encoder and optimisation",
    MASKGAN: "MaskGAN, drawn from the exact masks",
}
UNFINISHED = "\u2020"  # beside methods that were still improving when their training ended
TRUTH_NOTES = (
    "**LPIPS-Alex, L2 to truth**: distance to the same head truly smiling, rendered with everything else equal. The row"
    " *input* is the distance of doing nothing. **Mouth IoU**: overlap of the parts of the mouth, as the segmentation"
    " sees them on the edit, with the exact masks of the truly smiling head. The segmentation guides both EditGANs and"
    " is no judge: this tells how far they came in their own terms.",
    "**Leak**: mean squared error outside the mouth (exact masks: lips and mouth interior, neutral or smiling,"
    " dilated), against the input photo (contains the error of reconstruction) and against the reconstruction (the"
    " edit alone). A true smile also moves cheeks and eyes, hence the leak of the row *truly smiling*.",
)
PAIRED_NOTE = (
    "**LPIPS-Alex, L2 to truth**: distance to a photo of the same person truly smiling, taken at another moment: pose"
    " and light differ a little, too, and smiles are of many kinds. The row *input* is the distance of doing nothing."
)  # of photographs of people who come neutral and smiling
LEAK_NOTE = (
    "**Leak**: mean squared error outside the mouth (labelled mask: lips and mouth interior of the photo, with a"
    f" {ROOM}th of the picture's side around them), against the input photo (contains the error of reconstruction) and"
    " against the reconstruction (the edit alone)."
)  # of photographs, whose smiles have no masks
UNPAIRED_NOTE = "Nobody is seen truly smiling with all else equal: there is no distance to the truth and no ceiling."


@dataclass(frozen=True)
class Setting:
    """What the table must say about how it was made."""

    heads: int
    val_heads: int  # whose embedding is measured
    reference_heads: int
    vector: str
    source: str
    plus_source: str  # heads that the vector of EditGAN+ was learned from
    masks: int  # labelled masks
    edit_steps: int
    strengths: dict[str, float]  # of each method, chosen on ...
    chosen_on: int  # so many validation heads
    refine_steps: int
    feature_networks: tuple[str, ...]
    identity_networks: tuple[str, ...]
    given: dict[str, dict]  # the params of the stages that made the other methods
    trained: dict[str, dict[str, float]]  # what the stages of the methods without embedding measured
    different_people: dict[str, float]  # mean cosine of different people by identity network
    kid_subsets: int
    bootstrap: int
    rendered: bool = True  # heads, not photographs
    truth: bool = True  # every head exists truly smiling, too, as rendered ones do


def plain(rows: dict[str, Row]) -> dict[str, Row]:
    """The rows as generated."""
    return {name: row for name, row in rows.items() if not name.endswith(PASTED)}


def pasted(rows: dict[str, Row]) -> dict[str, Row]:
    """The rows that are pasted back."""
    return {name: row for name, row in rows.items() if name.endswith(PASTED)}


def table(scores: dict[str, Scores], unfinished: Collection[str] = ()) -> str:
    """One Markdown table: a row a method, a column a figure, 95 % intervals in brackets, a dash where none applies;
    a dagger beside the `unfinished` methods."""
    columns = list(dict.fromkeys(column for row in scores.values() for column in row.values))
    columns.sort(key=_column_order)
    lines = [
        "| | " + " | ".join(column_title(column) for column in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for name, row in scores.items():
        title = title_of(name) + f" {UNFINISHED}" * (name in unfinished)
        lines.append(f"| {title} | " + " | ".join(cell(row, column) for column in columns) + " |")
    return "\n".join(lines) + "\n"


def embedding_table(embedding: dict[str, dict[str, float]]) -> str:
    """How near the reconstructions of each rung come to their photos, as Markdown."""
    columns = list(next(iter(embedding.values())))
    titles = [EMBEDDING_TITLES.get(column) or column_title(column) for column in columns]
    lines = ["| | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(columns)]
    for rung, values in embedding.items():
        cells = [f"{1000 * values[name]:.2f}" if name == "l2" else f"{values[name]:.3f}" for name in columns]
        lines.append(f"| {RUNGS[rung]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def area_table(areas: dict[str, dict[str, Tensor]], against: str) -> str:
    """Area under accuracy over identity by smile judge, and the paired difference of `against` to each, as Markdown."""
    judges = list(areas[against])
    titles = [f"area, {judge}" for judge in judges] + [f"{title_of(against)} less this, {judge}" for judge in judges]
    lines = ["| | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(titles)]
    for name, row in areas.items():
        cells = []
        for judge in judges:
            low, high = percentile_interval(row[judge][1:])
            cells.append(f"{row[judge][0]:.1f} [{low:.1f}, {high:.1f}]")
        for judge in judges:
            difference = areas[against][judge] - row[judge]  # on the same resamples of heads
            low, high = percentile_interval(difference[1:])
            cells.append("–" if name == against else f"{difference[0]:+.1f} [{low:+.1f}, {high:+.1f}]")
        lines.append(f"| {title_of(name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def sweep_table(curves: dict[str, list[dict[str, float]]]) -> str:
    """Every method at every strength, as Markdown."""
    columns = [column for column in next(iter(curves.values()))[0] if column != "strength"]
    titles = ["strength", *(column_title(column) for column in columns)]
    lines = ["| | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(titles)]
    for name, rows in curves.items():
        for row in rows:
            cells = [cell(Scores(values=row), column) for column in columns]
            lines.append(f"| {title_of(name)} | {row['strength']:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def at_unit_strength(curves: dict[str, list[dict[str, float]]]) -> dict[str, list[dict[str, float]]]:
    """Of each method the row at strength 1."""
    return {
        name: [row for row in rows if row["strength"] == 1]
        for name, rows in curves.items()
        if name.removesuffix(PASTED) != RECONSTRUCTION
    }


def matched_identity(scores: dict[str, Scores], curves: dict[str, list[dict[str, float]]]) -> str:
    """How many each swept method makes smile, by the judge, where it keeps as much identity as each method that has no
    strength, as Markdown; curves all pasted back, or none. A dash where no strength keeps so much."""
    start = next(name for name in curves if name.removesuffix(PASTED) == RECONSTRUCTION)
    names = [name for name in curves if name != start]
    lines = [
        "| | identity to the photo | % smiling, judge | " + " | ".join(title_of(name) for name in names) + " |",
        "| --- |" + " ---: |" * (len(names) + 2),
    ]
    for row in (name for name in FROM_PHOTOS if name in scores):
        identity = scores[row].values["identity_mobilefacenet"]
        cells = [f"{identity:.3f}", f"{scores[row].values['smiling_judge']:.1f}"]
        for name in names:
            points = [*curves[start], *curves[name]]
            smiling, kept = (
                torch.tensor([point[key] for point in points], dtype=torch.float64)
                for key in ("smiling_judge", "identity_mobilefacenet")
            )
            best = envelope_at(smiling, kept, torch.tensor([identity], dtype=torch.float64))
            cells.append(f"{best.item():.1f}" if kept.max() >= identity else "–")
        lines.append(f"| {title_of(row)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def report(
    scores: dict[str, Scores],
    embedding: dict[str, dict[str, float]],
    areas: dict[str, dict[str, Tensor]],
    curves: dict[str, list[dict[str, float]]],
    setting: Setting,
    quality: str,
) -> str:
    """table.md: the judges' own quality, the embedding, the table of edits, the sweep, and how to read them."""
    strengths = ", ".join(f"{title_of(name)} {value:g}" for name, value in setting.strengths.items())
    refined, truth = refined_name(setting.refine_steps), setting.truth
    people = "heads of other people, half of them smiling" if setting.rendered else "pictures of other people"
    ceiling = "*truly smiling* shows what each judge can see at all, the row " if truth else ""
    ends = "*input*, *truly smiling*" if truth else "*input*"
    measured = "the mIoU of the segmentation is"
    if truth:
        measured = "the judges' own quality and the mIoU of the segmentation are"
    strangers = ", ".join(f"{value:.3f} ({name})" for name, value in setting.different_people.items())
    improving = [name for name, found in setting.trained.items() if found["still_improving"]]
    unfinished = ", ".join(map(title_of, improving))
    unfinished = f" {UNFINISHED} Still improving when training ended: {unfinished}." if unfinished else ""
    notes = [
        "All methods but those named at the end of this note edit the same embeddings by the same generator, each at"
        f" the strength that was chosen for it on {setting.chosen_on}"
        f" validation heads at rest by the guide: {strengths}; EditGAN+{setting.refine_steps}, which adds"
        f" {setting.refine_steps} steps of self-supervised refinement, takes EditGAN's. EditGAN's vector"
        f" `{setting.vector}` was learned from validation heads ({setting.source}). Nothing was trained and no setting"
        f" of an edit was chosen on the heads and people of this table; {measured} measured on the same heads. "
        + from_photos(setting.trained)
        + unfinished,
        f"**% smiling**: share of the {setting.heads} heads with P(smile) >= {SMILE_THRESHOLD:g}, by each judge on its"
        f" own. The row {ceiling}*input* {'' if truth else 'shows '}its false alarms.",
        f"**KID, FID** compare {setting.heads} heads with {setting.reference_heads} reference {people};"
        f" features: {', '.join(setting.feature_networks)}, resized inside the network."
        + _inception_note(setting)
        + f" At {setting.heads} samples FID is biased upwards by much of its value (Chong & Forsyth 2020): compare it"
        f" down the column, with the rows of real heads ({ends}) as its floor. KID is unbiased and may be negative;"
        f" mean over {setting.kid_subsets} subsets, its interval over the heads of the row alone. Neither rewards a"
        f" smile as such: the reference is {'half' if setting.rendered else 'partly'} neutral. Package clean-fid"
        " computes both, torchmetrics confirms each KID.",
        f"**Identity**: mean cosine of {', '.join(setting.identity_networks)} features to the input photo."
        f" Different people have a mean of {strangers}; *relative* puts that at 0 and the photo itself at 1.",
        *(TRUTH_NOTES if setting.rendered else (LEAK_NOTE, PAIRED_NOTE if truth else UNPAIRED_NOTE)),
        "Squared errors are of pixel values in [-1, 1]. Brackets: 95 % bootstrap intervals of the mean over heads"
        f" ({setting.bootstrap} resamples).",
    ]
    return "\n".join(
        [
            f"# Smile benchmark on {setting.heads} test heads",
            "",
            "## The judges",
            "",
            quality.strip(),
            "",
            "## The embedding",
            "",
            f"Reconstructions of {setting.val_heads} validation heads against the photos; what measures trained none of"
            " them:",
            "",
            embedding_table(embedding),
            "## The edits",
            "",
            table(plain(scores), improving),
            *[f"- {note}" for note in notes],
            "",
            "## What wins",
            "",
            *verdict(scores, areas, curves, refined),
            "",
            "## What each method was given",
            "",
            *[f"- {title_of(name)}: {words}" for name, words in budgets(setting).items()],
            "",
            "## What the networks of their own learned",
            "",
            *[f"- {title_of(name)}: {words}" for name, words in proofs(setting.trained).items()],
            "",
            "## Over all strengths",
            "",
            "Area under the best accuracy that a method's strengths, or mixtures of two, reach at a mean identity (to"
            " the photo) of at least x, x from that of different people to that of the reconstruction, in percent:"
            " 100 is a smile on every head at no loss of identity. Strength 0 counts for every method. Differences are"
            " paired over heads.",
            "",
            area_table(plain(areas), refined),
            f"The same areas, with the differences to {title_of(INTERFACEGAN)}:",
            "",
            area_table(plain(areas), INTERFACEGAN),
            "At the identity that methods without a strength keep, the others reach, at their best strength or mixture"
            " of two:",
            "",
            matched_identity(scores, plain(curves)),
            "At unit strength: the vector as its heads learned it, refined or not, a step of 1 in W, styles swapped"
            " whole.",
            "",
            sweep_table(at_unit_strength(plain(curves))),
            "At every strength:",
            "",
            sweep_table(plain(curves)),
            "## Pasted back",
            "",
            "The same edits on the photos: outside the edited parts, as the segmentation sees them before or after,"
            " and a seam around them, the photo's own pixels. What the reconstruction loses there is given back to"
            " every method alike, so that these figures compare among themselves only.",
            "",
            table(pasted(scores)),
            "At the identity that methods without a strength keep, the others reach, pasted back and at their best"
            " strength or mixture of two:",
            "",
            matched_identity(scores, pasted(curves)),
            "Area, pasted back:",
            "",
            area_table(pasted(areas), refined + PASTED),
            "At every strength, pasted back:",
            "",
            sweep_table(pasted(curves)),
        ]
    )


def from_photos(trained: Collection[str]) -> str:
    """What the methods do that edit without an embedding."""
    if MASKGAN not in trained:
        return (
            f"{title_of(DISTILLATION)} takes the photo itself, which spares it the error of the embedding, and has no"
            f" strength: none was chosen for it. {title_of(MASKGAN)} is left out: it learns from masks of all training"
            " pictures, which these do not have."
        )
    return (
        " and ".join(map(title_of, FROM_PHOTOS))
        + f" take the photo itself, {title_of(MASKGAN)} with its exact mask, which spares them the error of the"
        " embedding, and have no strength: none was chosen for them."
    )


def grid(rows: dict[str, Tensor], masks: dict[str, Tensor], heads: list[int]) -> Image.Image:
    """Heads down the rows, one captioned column a row of the table, masks beside what they are of.

    Args:
        rows: row name -> uint8 [N, 3, H, W]
        masks: row name -> coloured masks of the heads shown, uint8 [len(heads), 3, H, W]
        heads: which of the N
    """
    columns = {}
    for name, pictures in rows.items():
        columns[title_of(name).removesuffix(" (ceiling)").replace("conditional", "cond.")] = pictures[heads]
        if name in masks:
            columns[f"mask of {title_of(name)}"] = masks[name]
    width = next(iter(rows.values())).shape[-1]
    return labelled_grid(columns, scale=max(1, round(128 / width)))


def _inception_note(setting: Setting) -> str:
    if "inception" in setting.feature_networks:
        return " Only the columns of inception are comparable with published figures, at equal sample counts."
    return " None is the Inception of published figures, so no figure here compares with those."


def _column_order(column: str) -> int:
    order = [
        *("smiling_judge", "smiling_", "kid", "fid", "identity_relative_", "identity_to_reconstruction_", "identity_"),
        *("lpips_alex", "l2", "mouth_iou_segmentation", "leak_to_input", "leak_to_reconstruction"),
        "segmentation_accuracy",
    ]
    return next(rank for rank, prefix in enumerate(order) if column.startswith(prefix))


def cell(row: Scores, column: str) -> str:
    """A figure as it is printed, with its interval where it has one."""
    if column not in row.values:
        return "–"
    factor = 1000.0 if column.startswith(THOUSANDTHS) else 1.0
    digits = (
        1 if column.startswith(("smiling_", "segmentation_")) else 2 if column.startswith(("fid", *THOUSANDTHS)) else 3
    )
    text = f"{factor * row.values[column]:.{digits}f}"
    if column in row.intervals:
        low, high = row.intervals[column]
        text += f" [{factor * low:.{digits}f}, {factor * high:.{digits}f}]"
    return text
