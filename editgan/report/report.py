"""The benchmark as a Markdown table with what a reader must know beside it, and as a picture."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from editgan.images import labelled_grid
from editgan.judges.quality import SMILE_THRESHOLD
from editgan.methods.registry import INTERFACEGAN
from editgan.methods.smile import DISTILLATION, FROM_PHOTOS, MASKGAN, RECONSTRUCTION, ROOM, refined_name
from editgan.metrics import KID_SUBSETS, RESAMPLES, percentile_interval
from editgan.report.budgets import budgets
from editgan.report.proofs import proofs
from editgan.report.titles import IDENTITY, METRICS, NO_FIGURE, SMILING, cell, column_title, title_of
from editgan.report.verdict import verdict
from editgan.scoring.envelope import envelope_at
from editgan.scoring.table import Column, Row, Table, only

Areas = dict[Row, dict[str, Tensor]]  # by row, without its strength, and smile judge  # [1 + resamples]
SWEPT = ("smiling", "kid", "identity", "leak_to_input", "leak_to_reconstruction")  # metrics shown at every strength
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
    rendered: bool = True  # heads, not photographs
    truth: bool = True  # every head exists truly smiling, too, as rendered ones do


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def table(results: Table, unfinished: Collection[str] = ()) -> str:
    """The results as Markdown: a row a method, a column a figure, 95 % intervals in brackets, a dash where none
    applies; a dagger beside the `unfinished` methods."""
    samples = {column: figure.samples for figures in results.values() for column, figure in figures.items()}
    columns = sorted((column for column in samples if column.metric in METRICS), key=_column_order)
    rows = [
        [
            title_of(row.method) + f" {UNFINISHED}" * (row.method in unfinished),
            *(cell(figures.get(column), column) for column in columns),
        ]
        for row, figures in results.items()
    ]
    return markdown(["", *(column_title(column, samples[column]) for column in columns)], rows)


def embedding_table(embedding: Table) -> str:
    """How near the reconstructions of each rung come to their photos, as Markdown."""
    columns = {column: figure.samples for column, figure in next(iter(embedding.values())).items()}
    rows = [
        [RUNGS[row.method], *(cell(figures[column], column) for column in columns)]
        for row, figures in embedding.items()
    ]
    return markdown(["", *(column_title(*one) for one in columns.items())], rows)


def area_table(areas: Areas, against: str) -> str:
    """Area under accuracy over identity by smile judge, and the paired difference of `against` to each, as Markdown."""
    ours = next(by_judge for row, by_judge in areas.items() if row.method == against)
    titles = [f"area, {judge}" for judge in ours] + [f"{title_of(against)} less this, {judge}" for judge in ours]
    rows = []
    for row, by_judge in areas.items():
        cells = []
        for values in by_judge.values():
            low, high = percentile_interval(values[1:])
            cells.append(f"{values[0]:.1f} [{low:.1f}, {high:.1f}]")
        for judge, values in by_judge.items():
            difference = ours[judge] - values  # on the same resamples of heads
            low, high = percentile_interval(difference[1:])
            cells.append(NO_FIGURE if row.method == against else f"{difference[0]:+.1f} [{low:+.1f}, {high:+.1f}]")
        rows.append([title_of(row.method), *cells])
    return markdown(["", *titles], rows)


def sweep_table(sweep: Table) -> str:
    """Every method at every strength, as Markdown."""
    samples = {column: figure.samples for figures in sweep.values() for column, figure in figures.items()}
    columns = sorted((column for column in samples if column.metric in SWEPT), key=_column_order)
    rows = [
        [
            title_of(row.method),
            f"{row.strength:g}",
            *(cell(figures.get(column), column, interval=False) for column in columns),
        ]
        for row, figures in sweep.items()
    ]
    return markdown(["", "strength", *(column_title(column, samples[column]) for column in columns)], rows)


def at_unit_strength(sweep: Table) -> Table:
    """The rows at strength 1."""
    return {row: figures for row, figures in sweep.items() if row.strength == 1}


def matched_identity(results: Table, sweep: Table) -> str:
    """How many each swept method makes smile, by the judge, where it keeps as much identity as each method that has no
    strength, as Markdown; all rows of the sweep pasted back, or none. A dash where no strength keeps so much."""
    start = next(figures for row, figures in sweep.items() if row.method == RECONSTRUCTION)
    names = list(dict.fromkeys(row.method for row in sweep if row.method != RECONSTRUCTION))
    rows = []
    for row in (Row(name) for name in FROM_PHOTOS if Row(name) in results):
        identity, smiling = (results[row][column].value for column in (IDENTITY, SMILING))
        cells = [f"{identity:.3f}", f"{smiling:.1f}"]
        for name in names:
            points = [start, *(figures for swept, figures in sweep.items() if swept.method == name)]
            accuracy, kept = (
                torch.tensor([figures[column].value for figures in points], dtype=torch.float64)
                for column in (SMILING, IDENTITY)
            )
            best = envelope_at(accuracy, kept, torch.tensor([identity], dtype=torch.float64))
            cells.append(f"{best.item():.1f}" if kept.max() >= identity else NO_FIGURE)
        rows.append([title_of(row.method), *cells])
    return markdown(["", "identity to the photo", "% smiling, judge", *map(title_of, names)], rows)


def report(results: Table, embedding: Table, areas: Areas, sweep: Table, setting: Setting, quality: str) -> str:
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
        f" mean over {KID_SUBSETS} subsets, its interval over the heads of the row alone. Neither rewards a"
        f" smile as such: the reference is {'half' if setting.rendered else 'partly'} neutral. Package clean-fid"
        " computes both, torchmetrics confirms each KID.",
        f"**Identity**: mean cosine of {', '.join(setting.identity_networks)} features to the input photo."
        f" Different people have a mean of {strangers}; *relative* puts that at 0 and the photo itself at 1.",
        *(TRUTH_NOTES if setting.rendered else (LEAK_NOTE, PAIRED_NOTE if truth else UNPAIRED_NOTE)),
        "Squared errors are of pixel values in [-1, 1]. Brackets: 95 % bootstrap intervals of the mean over heads"
        f" ({RESAMPLES} resamples).",
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
            table(only(results, pasted=False), improving),
            *[f"- {note}" for note in notes],
            "",
            "## What wins",
            "",
            *verdict(results, areas, sweep, refined),
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
            area_table(only(areas, pasted=False), refined),
            f"The same areas, with the differences to {title_of(INTERFACEGAN)}:",
            "",
            area_table(only(areas, pasted=False), INTERFACEGAN),
            "At the identity that methods without a strength keep, the others reach, at their best strength or mixture"
            " of two:",
            "",
            matched_identity(results, only(sweep, pasted=False)),
            "At unit strength: the vector as its heads learned it, refined or not, a step of 1 in W, styles swapped"
            " whole.",
            "",
            sweep_table(at_unit_strength(only(sweep, pasted=False))),
            "At every strength:",
            "",
            sweep_table(only(sweep, pasted=False)),
            "## Pasted back",
            "",
            "The same edits on the photos: outside the edited parts, as the segmentation sees them before or after,"
            " and a seam around them, the photo's own pixels. What the reconstruction loses there is given back to"
            " every method alike, so that these figures compare among themselves only.",
            "",
            table(only(results, pasted=True)),
            "At the identity that methods without a strength keep, the others reach, pasted back and at their best"
            " strength or mixture of two:",
            "",
            matched_identity(results, only(sweep, pasted=True)),
            "Area, pasted back:",
            "",
            area_table(only(areas, pasted=True), refined),
            "At every strength, pasted back:",
            "",
            sweep_table(only(sweep, pasted=True)),
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


def grid(rows: dict[str, Tensor], masks: dict[str, Tensor]) -> Image.Image:
    """Heads down the rows, one captioned column a row of the table, masks beside what they are of.

    Args:
        rows: method -> the heads to show, uint8 [N, 3, H, W]
        masks: method -> their coloured masks, uint8 [N, 3, H, W]
    """
    columns = {}
    for name, pictures in rows.items():
        columns[title_of(name).removesuffix(" (ceiling)").replace("conditional", "cond.")] = pictures
        if name in masks:
            columns[f"mask of {title_of(name)}"] = masks[name]
    width = next(iter(rows.values())).shape[-1]
    return labelled_grid(columns, scale=max(1, round(128 / width)))


def _inception_note(setting: Setting) -> str:
    if "inception" in setting.feature_networks:
        return " Only the columns of inception are comparable with published figures, at equal sample counts."
    return " None is the Inception of published figures, so no figure here compares with those."


def _column_order(column: Column) -> int:
    return list(METRICS).index(column.metric)
