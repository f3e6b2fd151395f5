"""The benchmark as a Markdown table with explanations, and as a picture."""

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
    MASKGAN: "MaskGAN, generated from the exact masks",
}
UNFINISHED = "\u2020"  # marks methods that were still improving when training ended
TRUTH_NOTES = (
    "**LPIPS-Alex, L2 to truth**: distance to the same head truly smiling, rendered with everything else equal. The row"
    " *input* is the distance of the unedited photo. **Mouth IoU**: overlap of the mouth parts, as segmented on the"
    " edited head, with the exact masks of the truly smiling head. The segmentation guides both EditGANs and is not an"
    " independent judge; the column only shows how well they reach their own goal.",
    "**Leak**: mean squared error outside the mouth (exact masks: lips and mouth interior, neutral or smiling,"
    " dilated), to the input photo (includes the reconstruction error) and to the reconstruction (the edit only)."
    " A true smile also moves cheeks and eyes, hence the leak of the row *truly smiling*.",
)
PAIRED_NOTE = (
    "**LPIPS-Alex, L2 to truth**: distance to a photo of the same person truly smiling. It was taken at another moment,"
    " so pose and light also differ slightly, and smiles vary. The row *input* is the distance of the unedited photo."
)  # for photographs of the same people neutral and smiling
LEAK_NOTE = (
    "**Leak**: mean squared error outside the mouth (labelled mask: lips and mouth interior of the photo, dilated by"
    f" 1/{ROOM} of the picture's side), to the input photo (includes the reconstruction error) and to the"
    " reconstruction (the edit only)."
)  # for photographs, which have no masks of the smiling face
UNPAIRED_NOTE = "No one is pictured truly smiling with all else equal: no distance to the truth and no ceiling."


@dataclass(frozen=True)
class Setting:
    """What the table states about the experiment."""

    heads: int
    val_heads: int  # number of heads for the embedding metrics
    reference_heads: int
    vector: str
    source: str
    plus_source: str  # heads from which the vector of EditGAN+ was learned
    masks: int  # number of labelled masks
    edit_steps: int
    strengths: dict[str, float]  # of each method
    chosen_on: int  # number of validation heads on which the strengths were chosen
    refine_steps: int
    feature_networks: tuple[str, ...]
    identity_networks: tuple[str, ...]
    given: dict[str, dict]  # parameters of the stages of the other methods
    trained: dict[str, dict[str, float]]  # metrics of the stages of the methods without embedding
    different_people: dict[str, float]  # mean cosine of different people, by identity network
    rendered: bool = True  # rendered heads rather than photographs
    truth: bool = True  # every head also exists truly smiling, as for rendered heads


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with text in the first column and numbers in the others."""
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def table(results: Table, unfinished: Collection[str] = ()) -> str:
    """The results as Markdown: one row per method, one column per metric, 95 % intervals in brackets.

    A dash marks values that do not exist, a dagger the `unfinished` methods.
    """
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
    """Reconstruction metrics of each embedding method, as Markdown."""
    columns = {column: figure.samples for column, figure in next(iter(embedding.values())).items()}
    rows = [
        [RUNGS[row.method], *(cell(figures[column], column) for column in columns)]
        for row, figures in embedding.items()
    ]
    return markdown(["", *(column_title(*one) for one in columns.items())], rows)


def area_table(areas: Areas, against: str) -> str:
    """Area under accuracy over identity by smile judge, and the paired differences `against` - method, as Markdown."""
    ours = next(by_judge for row, by_judge in areas.items() if row.method == against)
    titles = [f"area, {judge}" for judge in ours] + [f"{title_of(against)} minus row, {judge}" for judge in ours]
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
    """Smiles (by the judge) of each swept method at the identity of each method without a strength, as Markdown.

    All rows of the sweep are pasted back, or none. A dash: no strength keeps this identity.
    """
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
    """table.md: quality of the judges, the embedding, the table of edits, the sweep, and explanations."""
    strengths = ", ".join(f"{title_of(name)} {value:g}" for name, value in setting.strengths.items())
    refined, truth = refined_name(setting.refine_steps), setting.truth
    people = "heads of other people, half of them smiling" if setting.rendered else "pictures of other people"
    ceiling = "*truly smiling* shows the maximum that each judge can detect, the row " if truth else ""
    ends = "*input*, *truly smiling*" if truth else "*input*"
    measured = "the mIoU of the segmentation is"
    if truth:
        measured = "the quality of the judges and the mIoU of the segmentation are"
    strangers = ", ".join(f"{value:.3f} ({name})" for name, value in setting.different_people.items())
    improving = [name for name, found in setting.trained.items() if found["still_improving"]]
    unfinished = ", ".join(map(title_of, improving))
    unfinished = f" {UNFINISHED} Still improving when training ended: {unfinished}." if unfinished else ""
    notes = [
        "All methods except those named at the end of this note edit the same embeddings with the same generator, each"
        f" at the strength that the guide chose for it on {setting.chosen_on}"
        f" neutral validation heads: {strengths}; EditGAN+{setting.refine_steps} uses EditGAN's strength and adds"
        f" {setting.refine_steps} steps of self-supervised refinement. EditGAN's vector"
        f" `{setting.vector}` was learned from validation heads ({setting.source}). Nothing was trained and no setting"
        f" of an edit was chosen on the heads and people of this table; {measured} measured on the same heads. "
        + from_photos(setting.trained)
        + unfinished,
        f"**% smiling**: share of the {setting.heads} heads with P(smile) >= {SMILE_THRESHOLD:g}, for each judge"
        f" separately. The row {ceiling}*input* {'' if truth else 'shows '}its false alarms.",
        f"**KID, FID** compare {setting.heads} heads with {setting.reference_heads} reference {people};"
        f" features: {', '.join(setting.feature_networks)}, resized inside the network."
        + _inception_note(setting)
        + f" With {setting.heads} samples FID has a large upward bias (Chong & Forsyth 2020): compare it only within"
        f" the column; the rows of real heads ({ends}) are its floor. KID is unbiased and may be negative; it is the"
        f" mean over {KID_SUBSETS} subsets, and its interval resamples only the heads of the row. Neither rewards"
        f" smiles as such: the reference is {'half' if setting.rendered else 'partly'} neutral. Package clean-fid"
        " computes both, torchmetrics confirms each KID.",
        f"**Identity**: mean cosine of {', '.join(setting.identity_networks)} features to the input photo."
        f" Different people have a mean of {strangers}; *relative* maps this to 0 and the photo itself to 1.",
        *(TRUTH_NOTES if setting.rendered else (LEAK_NOTE, PAIRED_NOTE if truth else UNPAIRED_NOTE)),
        "Squared errors use pixel values in [-1, 1]. Brackets: 95 % bootstrap intervals of the mean over heads"
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
            f"Reconstructions of {setting.val_heads} validation heads compared with the photos. The measuring networks"
            " were not used in training:",
            "",
            embedding_table(embedding),
            "## The edits",
            "",
            table(only(results, pasted=False), improving),
            *[f"- {note}" for note in notes],
            "",
            "## Verdict",
            "",
            *verdict(results, areas, sweep, refined),
            "",
            "## Budget of each method",
            "",
            *[f"- {title_of(name)}: {words}" for name, words in budgets(setting).items()],
            "",
            "## Networks trained by the methods",
            "",
            *[f"- {title_of(name)}: {words}" for name, words in proofs(setting.trained).items()],
            "",
            "## Over all strengths",
            "",
            "Area under the upper envelope of accuracy over identity, in percent. The envelope at x is the highest"
            " accuracy of a method's strengths, or of mixtures of two, with a mean identity (to the photo) of at least"
            " x; x runs from the identity of different people to that of the reconstruction. 100 is a smile on every"
            " head at no loss of identity. Strength 0 is included for every method. Differences are paired over heads.",
            "",
            area_table(only(areas, pasted=False), refined),
            f"The same areas, with the differences to {title_of(INTERFACEGAN)}:",
            "",
            area_table(only(areas, pasted=False), INTERFACEGAN),
            "Smiles of the other methods, at their best strength or mixture of two, at the identity of each method"
            " without a strength:",
            "",
            matched_identity(results, only(sweep, pasted=False)),
            "At unit strength: the learned vector, with or without refinement; a step of 1 in W; styles fully swapped.",
            "",
            sweep_table(at_unit_strength(only(sweep, pasted=False))),
            "At every strength:",
            "",
            sweep_table(only(sweep, pasted=False)),
            "## Pasted back",
            "",
            "The same edits pasted onto the photos: pixels outside the edited parts (as segmented before or after the"
            " edit) and outside a seam around them are the photo's own. This removes the reconstruction error there for"
            " every method, so compare these values only with each other.",
            "",
            table(only(results, pasted=True)),
            "Smiles of the other methods, pasted back and at their best strength or mixture of two, at the identity of"
            " each method without a strength:",
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
    """Note about the methods that edit without an embedding."""
    if MASKGAN not in trained:
        return (
            f"{title_of(DISTILLATION)} takes the photo itself, so it has no embedding error. It has no strength to"
            f" choose. {title_of(MASKGAN)} is left out: it needs masks of all training"
            " pictures, which these data do not have."
        )
    return (
        " and ".join(map(title_of, FROM_PHOTOS))
        + f" take the photo itself, {title_of(MASKGAN)} with its exact mask, so they have no embedding error."
        " They have no strength to choose."
    )


def grid(rows: dict[str, Tensor], masks: dict[str, Tensor]) -> Image.Image:
    """A grid with one row per head and one captioned column per method, masks next to their pictures.

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
        return " Only the inception columns are comparable with published values, at equal sample counts."
    return " No feature network is the Inception of published values, so no value is comparable with those."


def _column_order(column: Column) -> int:
    return list(METRICS).index(column.metric)
