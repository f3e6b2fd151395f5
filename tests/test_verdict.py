"""The sentences of the report: who wins, and what cannot be told apart."""

import torch

from editgan.benchmark.report import at_unit_strength
from editgan.benchmark.scores import Scores
from editgan.benchmark.verdict import verdict

RESAMPLED = torch.linspace(-1, 1, 101)


def block(**areas: float) -> dict:
    """Areas by method, the same by each judge, with resamples that reach a point to either side, paired."""
    order = {name: torch.randperm(101, generator=torch.Generator().manual_seed(i)) for i, name in enumerate(areas)}
    resampled = {name: value + RESAMPLED[order[name]] for name, value in areas.items()}
    return {name: {"judge": torch.cat([torch.tensor([areas[name]]), values])} for name, values in resampled.items()}


def row(smiling: float, identity: float, **others: float) -> dict[str, float]:
    return {"smiling_judge": smiling, "identity_mobilefacenet": identity, **others}


def said(areas: dict, curves: dict, scores: dict) -> str:
    rows = {name: Scores(values=values) for name, values in scores.items()}
    return "\n".join(verdict(rows, areas, curves, "editgan_30"))


def test_winner_and_those_that_the_interval_does_not_tell_apart():
    plain = block(editgan=60.0, editgan_30=70.0, editgan_plus=79.7, interfacegan=80.0, localediting=20.0)
    pasted = {f"{name}_pasted": value for name, value in block(editgan=90.0, editgan_plus=50.0).items()}
    curves = {"editgan_plus": [row(60.0, 0.7), row(85.0, 0.6)], "interfacegan": [row(96.0, 0.62), row(99.0, 0.5)]}
    scores = {
        "input": row(4.0, 1.0, lpips_alex=0.01),
        "editgan_plus": row(60.0, 0.7, lpips_alex=0.06, leak_to_reconstruction=0.001),
        "interfacegan": row(80.0, 0.68, lpips_alex=0.05, leak_to_reconstruction=0.004),
        "maskgan": row(97.0, 0.71, lpips_alex=0.07),
    }
    text = said(plain | pasted, curves, scores)
    assert "as generated, by judge: InterFaceGAN is largest with 80.0; not told apart from it: EditGAN+ (ours)." in text
    assert "pasted back, by judge: EditGAN is largest with 90.0; by more than every interval." in text
    assert "EditGAN+30 against InterFaceGAN, as generated: judge behind (-10.0" in text
    assert "EditGAN+30 against LocalEditing, as generated: judge ahead (+50.0" in text
    assert "makes at most 85.0 % smile by the judge, at an identity of 0.600 (95 % were aimed at" in text
    assert "Of those that reach 95 %, MaskGAN keeps most identity, 0.710." in text
    assert "EditGAN+ (ours) leaks least and InterFaceGAN comes nearest to the truth (LPIPS-Alex)." in text


def test_touching_intervals_are_no_victory_and_photographs_have_no_truth():
    areas = block(editgan_30=80.0, interfacegan=79.0, localediting=78.5) | block(editgan_30_pasted=1.0)
    curves = {"editgan_plus": [row(60.0, 0.7)]}
    text = said(areas, curves, {"editgan_plus": row(60.0, 0.7, leak_to_reconstruction=0.001)})
    assert "against InterFaceGAN, as generated: judge intervals touch (+1.0" in text
    assert "Of those that reach" not in text and text.endswith("EditGAN+ (ours) leaks least.")


def test_unit_strength_is_strength_one_of_every_method():
    curves = {
        "reconstruction": [{"strength": 0.0}], "editgan": [{"strength": 0.5}, {"strength": 1.0}],
        "editgan_plus": [{"strength": 2.0}], "editgan_30_pasted": [{"strength": 1}],
    }  # fmt: skip
    ones = {"editgan": [{"strength": 1.0}], "editgan_plus": [], "editgan_30_pasted": [{"strength": 1}]}
    assert at_unit_strength(curves) == ones
