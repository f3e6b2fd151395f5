"""The sentences of the report: who wins, and what cannot be told apart."""

import torch

from editgan.benchmark.tables import at_unit_strength
from editgan.benchmark.verdict import verdict
from editgan.scoring.table import Column, Figure, Row

RESAMPLED = torch.linspace(-1, 1, 101)
SMILING, IDENTITY = Column("smiling", "judge"), Column("identity", "mobilefacenet")
DISTANCE, LEAK = Column("lpips", "alex"), Column("leak_to_reconstruction")


def block(pasted: bool = False, **areas: float) -> dict:
    """Areas by method, the same by each judge, with resamples that reach a point to either side, paired."""
    order = {name: torch.randperm(101, generator=torch.Generator().manual_seed(i)) for i, name in enumerate(areas)}
    resampled = {name: value + RESAMPLED[order[name]] for name, value in areas.items()}
    return {
        Row(name, pasted=pasted): {"judge": torch.cat([torch.tensor([areas[name]]), values])}
        for name, values in resampled.items()
    }


def figures(smiling: float, identity: float, **others: float) -> dict[Column, Figure]:
    named = {"lpips": DISTANCE, "leak": LEAK}
    values = {SMILING: smiling, IDENTITY: identity} | {named[name]: value for name, value in others.items()}
    return {column: Figure(400, value) for column, value in values.items()}


def said(areas: dict, sweep: dict, results: dict) -> str:
    rows = {Row(name): values for name, values in results.items()}
    return "\n".join(verdict(rows, areas, sweep, "editgan_plus_30"))


def test_winner_and_those_that_the_interval_does_not_tell_apart():
    plain = block(editgan=60.0, editgan_plus_30=70.0, editgan_plus=79.7, interfacegan=80.0, localediting=20.0)
    pasted = block(pasted=True, editgan=90.0, editgan_plus=50.0)
    sweep = {
        Row("editgan_plus", 1.0): figures(60.0, 0.7),
        Row("editgan_plus", 2.0): figures(85.0, 0.6),
        Row("interfacegan", 1.0): figures(96.0, 0.62),
        Row("interfacegan", 2.0): figures(99.0, 0.5),
    }
    results = {
        "input": figures(4.0, 1.0, lpips=0.01),
        "editgan_plus": figures(60.0, 0.7, lpips=0.06, leak=0.001),
        "interfacegan": figures(80.0, 0.68, lpips=0.05, leak=0.004),
        "maskgan": figures(97.0, 0.71, lpips=0.07),
    }
    text = said(plain | pasted, sweep, results)
    first = "as generated, by judge: InterFaceGAN has the largest, 80.0"
    assert f"{first}; no significant difference to EditGAN+ (ours)." in text
    assert "pasted back, by judge: EditGAN has the largest, 90.0; others significantly lower." in text
    assert (
        "EditGAN+30 (ours) against InterFaceGAN, as generated, paired: by judge InterFaceGAN is better by 10.0 ["
        in text
    )
    assert (
        "EditGAN+30 (ours) against LocalEditing, as generated, paired: by judge EditGAN+30 (ours) is better by 50.0 ["
        in text
    )
    assert "makes at most 85.0 % smile by the judge, at an identity of 0.600 (goal: 95 % at the" in text
    assert "Of those that reach 95 %, MaskGAN has the highest identity, 0.710." in text
    assert "EditGAN+ (ours) has the lowest leak and InterFaceGAN is nearest to the truth (LPIPS-Alex)." in text


def test_paired_interval_around_zero_is_no_victory_and_photographs_have_no_truth():
    areas = block(editgan_plus_30=80.0, interfacegan=79.0, localediting=78.5) | block(pasted=True, editgan_plus_30=1.0)
    sweep = {Row("editgan_plus", 1.0): figures(60.0, 0.7)}
    text = said(areas, sweep, {"editgan_plus": figures(60.0, 0.7, leak=0.001)})
    assert "against InterFaceGAN, as generated, paired: by judge no significant difference (+1.0 [" in text
    assert "Of those that reach" not in text and text.endswith("EditGAN+ (ours) has the lowest leak.")


def test_unit_strength_is_strength_one_of_every_method():
    sweep = {
        Row("reconstruction", 0.0): {}, Row("editgan", 0.5): {}, Row("editgan", 1.0): {}, Row("editgan_plus", 2.0): {},
        Row("editgan_plus_30", 1, True): {},
    }  # fmt: skip
    assert list(at_unit_strength(sweep)) == [Row("editgan", 1.0), Row("editgan_plus_30", 1.0, True)]
