"""The figures of EditGAN's paper beside those of a run on the paper's data (table 1 and its supplement)."""

from collections.abc import Mapping
from typing import Any

from editgan.benchmark.tables import aligned
from editgan.benchmark.titles import NO_FIGURE, SMILING, cell, title_of
from editgan.methods.registry import INTERFACEGAN, LOCALEDITING
from editgan.methods.smile import EDITGAN, MASKGAN, refined_name
from editgan.scoring.table import Column, Table, only

PAPERS_STEPS = 30  # of refinement
# method -> attribute accuracy in percent, FID, cosine of ArcFace's features
PUBLISHED = {
    MASKGAN: (77.3, 46.84, 0.461),
    LOCALEDITING: (26.0, 41.26, 0.582),
    INTERFACEGAN: (83.5, 39.42, 0.730),
    EDITGAN: (91.5, 41.74, 0.705),
    refined_name(PAPERS_STEPS): (85.8, 40.83, 0.745),
}
COLUMNS = (SMILING, Column("fid", "inception"), Column("identity", "ir_se50"))
TITLES = ("% smiling", "FID, Inception", "identity, ArcFace")
FORMATS = (".1f", ".2f", ".3f")
STRENGTH = "the paper applies every method at its own strength 1; here the guide chooses it on validation faces"
DATA = "faces: test part of CelebA-HQ without a smile, in a seeded order; the paper does not say which 400 it uses"
NETWORK = (
    "% smiling: a ResNet-18 of half width on half of the people, on the lower face; the paper's sees whole pictures"
)
FID = "FID: against other people of the test part; the paper compares with the test set"
NO_INCEPTION = "FID: without the published Inception (assets.reference_inception), there is no figure to compare"
NO_ARCFACE = "identity: without IR-SE50 (assets.ir_se50), there is no figure to compare"
ARCFACE = "identity: IR-SE50 on faces that are cropped as in all identity networks here; the paper does not say how"
REFINED = "EditGAN+30: here the mean of the vectors of several heads is refined, in the paper the vector of one head"
ENCODER = "embedding: this project's encoder and its optimisation; the paper's encoder is a ResNet-50 with a pyramid"


def published_table(results: Table, facts: Mapping[str, Any]) -> str:
    """Each figure of the paper beside ours, as Markdown. A dash: not measured, or a method that the run left out."""
    ours = {row.method: figures for row, figures in only(results, pasted=False).items()}
    head = [f"{title}, {whose}" for title in TITLES for whose in ("paper", "here")]
    rows = []
    for method, values in PUBLISHED.items():
        own = refined_name(facts["refine_steps"]) if method == refined_name(PAPERS_STEPS) else method
        cells = [title_of(method).removesuffix(" (ours)")]
        for column, value, form in zip(COLUMNS, values, FORMATS, strict=True):
            figure = ours.get(own, {}).get(column)
            cells += [f"{value:{form}}", NO_FIGURE if figure is None else cell(figure, column)]
        rows.append(cells)
    return aligned(["", *head], rows)


def differences(results: Table, facts: Mapping[str, Any]) -> list[str]:
    """One sentence for each difference in protocol."""
    measured = {column for figures in results.values() for column in figures}
    notes = [
        f"generator: {facts['generator']}; the paper's makes FFHQ faces of 1024 px",
        DATA,
        ENCODER,
        STRENGTH,
        NETWORK,
        REFINED,
        FID if COLUMNS[1] in measured else NO_INCEPTION,
        ARCFACE if COLUMNS[2] in measured else NO_ARCFACE,
    ]
    if facts["refine_steps"] != PAPERS_STEPS:
        notes.append(f"refinement: {facts['refine_steps']} steps; the paper has {PAPERS_STEPS}")
    if facts["masks"] != 16:
        notes.append(f"labels: {facts['masks']} masks; the paper has 16")
    if facts["heads"] != 400:
        notes.append(f"faces: {facts['heads']}; the paper has 400")
    return notes
