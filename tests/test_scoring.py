"""Every method at every strength on tiny random networks: what is kept, what is chosen, what is said of bad input."""

import contextlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from test_benchmark_stage import context, made  # noqa: F401  (fixtures)
from test_scores import HEADS, METHODS, RedMouth

from editgan.editing.vectors import load_vector
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.methods import smile
from editgan.methods.registry import load_methods
from editgan.scoring import stage
from editgan.scoring.params import ScoringParams
from editgan.scoring.scores import load_heads
from editgan.scoring.table import Column, Row, only, parse_table
from editgan.weights import load_tensors, save_tensors

VALUES = dict(
    recipe=1, vector="smile", plus_vector="smile_mean", editgan=(1,), refined=(1,),
    editgan_plus=(0.5,), interfacegan=(1,), localediting=(1,),
)  # fmt: skip


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def of_sweep(context):  # noqa: F811
    return SimpleNamespace(**{**vars(context), "out": context.input("scoring"), "work": context.root / "again"})


def test_every_strength_of_every_method_is_kept_for_every_head(context):  # noqa: F811
    path = context.input("scoring") / "results.csv"
    results = parse_table(path.read_bytes(), str(path))
    heads, _ = load_heads(context.input("scoring") / "heads.safetensors")  # in float16
    strengths = {"reconstruction": {0.0}, "editgan_plus_2": {1.0, chosen_strength(context)}}
    strengths |= {"interfacegan": {1.0, 2.0}, "interfacegan_conditional": {1.0, 2.0}}
    expected = {
        Row(name, strength, pasted)
        for name in (*METHODS, "editgan_plus_2", "reconstruction")
        for strength in strengths.get(name, {0.5, 1.0})
        for pasted in (False, True)
    }
    assert set(results) == expected == {row for row, _ in heads}
    identity = Column("identity", "mobilefacenet")
    for row, figures in results.items():
        assert figures[identity].samples == HEADS == len(heads[row, identity])
        assert figures[identity].value == pytest.approx(float(heads[row, identity].mean()), abs=5e-4)
        assert {column.metric for of, column in heads if of == row} == {"smiling", "identity"}
    own, leak = Column("leak_to_reconstruction"), Column("leak_to_input")
    assert results[Row("editgan", 1.0)][own].value > results[Row("editgan", 0.5)][own].value, "stronger, more leak"
    for row in only(results, pasted=False):
        assert results[row._replace(pasted=True)][leak].value <= results[row][leak].value + 1e-6


def chosen_strength(context) -> float:  # noqa: F811
    return json.loads((context.input("scoring") / "metrics.json").read_text())["chosen"]["editgan_plus"]["strength"]


def test_sweep_is_byte_stable_and_takes_up_finished_batches(context, monkeypatch):  # noqa: F811
    first = contents(context.input("scoring"))
    again = of_sweep(context)
    stage.run(again)
    assert contents(context.input("scoring")) == first
    kept = sorted(again.work.rglob("refined/*.safetensors"))
    assert len(kept) >= 2
    kept[-1].unlink()
    judged = sorted(again.work.rglob("scored/*.csv"))
    assert len(judged) == 1 + 10 + len(kept) // 2
    judged[0].unlink()
    for path in judged:
        if path.name.startswith("editgan_plus_2_"):  # after refinement
            path.unlink()
    refined, real = [], smile.refine
    monkeypatch.setattr(smile, "refine", lambda *args, **kwargs: refined.append(len(args[3])) or real(*args, **kwargs))
    stage.run(again)
    assert refined == [HEADS - 4] and contents(context.input("scoring")) == first


def test_the_chosen_strength_is_refined_whether_asked_for_or_not(context):  # noqa: F811
    chosen = chosen_strength(context)
    tensors, metadata = load_tensors(context.input("scoring") / "refined.safetensors")
    assert metadata["strength"] == chosen and len(tensors["w_plus"]) == HEADS
    heads, _ = load_heads(context.input("scoring") / "heads.safetensors")
    assert {row.strength for row, _ in heads if row.method == "editgan_plus_2"} == {1.0, chosen}


def test_choice_is_the_least_strength_that_reaches_what_is_asked(context, monkeypatch):  # noqa: F811
    """Methods that are told by their strengths alone, and a guide that reads them off the pictures."""

    class Guide(RedMouth):
        def smile(self, images):
            return images[:, 0, 0, 0]

    class Shaded:
        def pictures(self, edited):
            with edited as (count, strength):
                pictures = torch.zeros(count, 3, 16, 16, dtype=torch.uint8)
                pictures[: round(count * min(strength / 2, 1)), 0, 0, 0] = 255
                return pictures

    method = lambda w_plus: lambda strength: contextlib.nullcontext((len(w_plus), strength))  # noqa: E731
    methods = dict.fromkeys(METHODS, method)
    monkeypatch.setattr(stage, "load_guide", lambda *_: Guide())
    vector = load_vector(context.input("editing") / "vectors" / "smile.safetensors")

    def chosen(*strengths: float) -> dict:
        return stage.choose(
            of_sweep(context), methods, Shaded(), dict.fromkeys(METHODS, strengths), {"editgan": vector}
        )

    whole = chosen(0.5, 1.0, 2.0, 3.0)
    found = whole["chosen"]
    assert whole["val_heads"] == HEADS - 1, "without the head learned from"
    assert {row["strength"] for row in found.values()} == {2.0}
    assert set(found["editgan"]) == {"strength", f"smiling_guide_val{HEADS - 1}"}, "without the head learned from"
    assert {row["strength"] for row in chosen(0.5, 1.0)["chosen"].values()} == {1.0}, "the most, where none reaches it"


def load(context):  # noqa: F811
    options = dict(vector="smile", plus="smile_mean", device=torch.device("cpu"))
    return load_methods(context.root / "outputs", **options)


def test_files_of_another_generator_are_named(context):  # noqa: F811
    channels = context.input("localediting") / "channels.safetensors"
    tensors, _ = load_tensors(channels)
    save_tensors(channels, {name: tensor for name, tensor in tensors.items() if name != "q02"})
    with pytest.raises(UserError, match="channels.safetensors.*q02.*stage localediting"):
        load(context)
    directions = context.input("interfacegan") / "directions.safetensors"
    save_tensors(directions, {"smile": torch.zeros(3), "smile_conditional": torch.zeros(3)})
    with pytest.raises(UserError, match="no direction smile of 8 entries; run stage interfacegan"):
        load(context)


def test_methods_without_strength_give_the_reconstruction(context):  # noqa: F811
    _, methods, renderer = load(context)
    w_plus = load_latents(context.input("encoder") / "latents.safetensors")["test"]
    plain = renderer.pictures(contextlib.nullcontext(w_plus))
    for name in METHODS:
        edit_at = methods[name](w_plus)
        assert torch.equal(renderer.pictures(edit_at(0.0)), plain), name
        assert not torch.equal(renderer.pictures(edit_at(1.0)), plain), name


def test_pasted_pictures_keep_the_photo_far_from_the_mouth(context):  # noqa: F811
    _, methods, renderer = load(context)
    w_plus = load_latents(context.input("encoder") / "latents.safetensors")["test"]
    photos = torch.randint(0, 256, (HEADS, 3, 16, 16), dtype=torch.uint8)
    before = torch.ones(HEADS, 16, 16, dtype=torch.uint8)
    before[:, 10:12, 6:10] = 2
    renderer = replace(renderer, S=Seeing(renderer.S, before))
    plain, pasted, after = renderer.both(methods["editgan"](w_plus)(1.0), photos, before)
    assert torch.equal(after, before)
    assert torch.equal(pasted[:, :, :5], photos[:, :, :5]) and torch.equal(
        pasted[:, :, 10:12, 6:10], plain[:, :, 10:12, 6:10]
    )


class Seeing(torch.nn.Module):
    """A segmentation that sees the same masks whatever it is shown."""

    def __init__(self, S, masks: torch.Tensor) -> None:
        super().__init__()
        self.class_ids, self.masks, self.shown = S.class_ids, masks, 0

    def predict(self, features, size: int) -> torch.Tensor:
        count = len(features[0])
        self.shown += count
        return self.masks[self.shown - count : self.shown]


@pytest.mark.parametrize("bad", [(), (0, 1), (2, 1), (1, 1)])
def test_strengths_rise_from_above_nothing(bad):
    ScoringParams(**VALUES)
    with pytest.raises(ValidationError):
        ScoringParams(**VALUES | {"editgan": bad})
