"""Every method at every strength on tiny random networks: what is kept, what is chosen, what is said of bad input."""

import json
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from test_benchmark import HEADS, RedMouth, context  # noqa: F401  (a fixture)

from editgan.benchmark import smile
from editgan.benchmark.methods import METHODS, load_methods
from editgan.editing.vectors import load_vector
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.generator.generator import load_generator
from editgan.sweep import stage
from editgan.sweep.params import SweepParams
from editgan.weights import load_tensors, save_tensors

VALUES = dict(
    recipe=1, vector="smile", asked=0.9, editgan=(1,), refined=(1,), interfacegan=(1,), localediting=(1,), batch=4,
    kid_subsets=3,
)  # fmt: skip


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def of_sweep(context):  # noqa: F811
    return SimpleNamespace(**{**vars(context), "out": context.input("sweep"), "work": context.root / "again"})


def test_every_strength_of_every_method_is_kept_for_every_head(context):  # noqa: F811
    tensors, metadata = load_tensors(context.input("sweep") / "heads.safetensors")
    assert set(metadata["strengths"]) == {*METHODS, "editgan_2", "reconstruction"}
    for name, strengths in metadata["strengths"].items():
        assert tensors[f"{name}.smile"].shape == (len(strengths), HEADS, 3)
        assert tensors[f"{name}.identity"].shape == tensors[f"{name}.leak"].shape == (len(strengths), HEADS)
        rows = json.loads((context.input("sweep") / "curves" / f"{name}.json").read_text())
        assert [row["strength"] for row in rows] == strengths
        for row, identity in zip(rows, tensors[f"{name}.identity"], strict=True):
            assert row["identity_mobilefacenet"] == pytest.approx(float(identity.mean()), abs=1e-5)
    assert (tensors["reconstruction.leak"] == 0).all()
    assert (tensors["editgan.leak"][1] > tensors["editgan.leak"][0]).all(), "a stronger edit leaks more"


def test_sweep_is_byte_stable_and_takes_up_finished_batches(context, monkeypatch):  # noqa: F811
    first = contents(context.input("sweep"))
    again = of_sweep(context)
    stage.run(again)
    assert contents(context.input("sweep")) == first
    kept = sorted(again.work.rglob("*.safetensors"))
    assert len(kept) >= 2
    kept[-1].unlink()
    refined, real = [], smile.refine
    monkeypatch.setattr(smile, "refine", lambda *args, **kwargs: refined.append(len(args[3])) or real(*args, **kwargs))
    stage.run(again)
    assert refined == [HEADS - 4] and contents(context.input("sweep")) == first


def test_the_chosen_strength_is_refined_whether_asked_for_or_not(context):  # noqa: F811
    chosen = json.loads((context.input("sweep") / "metrics.json").read_text())["chosen"]["editgan"]["strength"]
    tensors, metadata = load_tensors(context.input("sweep") / "refined.safetensors")
    assert metadata["strength"] == chosen and len(tensors["w_plus"]) == HEADS
    strengths = load_tensors(context.input("sweep") / "heads.safetensors")[1]["strengths"]
    assert strengths["editgan_2"] == sorted({1.0, chosen})


def test_choice_is_the_least_strength_that_reaches_what_is_asked(context, monkeypatch):  # noqa: F811
    class Counting(RedMouth):
        """Calls more heads smiling the stronger the edit was: the methods are told by their strengths alone."""

        def smile(self, images):
            return images[:, 0, 0, 0]

    methods = {name: lambda w, strength: shaded(len(w), strength) for name in METHODS}

    def shaded(count: int, strength: float) -> torch.Tensor:
        pictures = torch.zeros(count, 3, 16, 16, dtype=torch.uint8)
        pictures[: round(count * min(strength / 2, 1)), 0, 0, 0] = 255
        return pictures

    monkeypatch.setattr(stage, "load_guide", lambda *_: Counting())
    vector = load_vector(context.input("editing") / "vectors" / "smile.safetensors")
    strengths = dict.fromkeys(METHODS, (0.5, 1.0, 2.0, 3.0))
    chosen = stage.choose(of_sweep(context), methods, strengths, vector)
    assert {row["strength"] for row in chosen.values()} == {2.0}
    assert set(chosen["editgan"]) == {"strength", f"smiling_guide_val{HEADS - 1}"}, "without the head learned from"
    chosen = stage.choose(of_sweep(context), methods, dict.fromkeys(METHODS, (0.5, 1.0)), vector)
    assert {row["strength"] for row in chosen.values()} == {1.0}, "the most, where none reaches it"


def test_files_of_another_generator_are_named(context):  # noqa: F811
    vector = load_vector(context.input("editing") / "vectors" / "smile.safetensors")
    G = load_generator(context.input("generator") / "G_ema.safetensors")
    options = dict(batch=4, device=torch.device("cpu"))
    channels = context.input("localediting") / "channels.safetensors"
    tensors, _ = load_tensors(channels)
    save_tensors(channels, {name: tensor for name, tensor in tensors.items() if name != "q02"})
    with pytest.raises(UserError, match="channels.safetensors.*q02.*stage localediting"):
        load_methods(context.root / "outputs", G, vector, **options)
    directions = context.input("interfacegan") / "directions.safetensors"
    save_tensors(directions, {"smile": torch.zeros(3), "smile_conditional": torch.zeros(3)})
    with pytest.raises(UserError, match="no direction smile of 8 entries; run stage interfacegan"):
        load_methods(context.root / "outputs", G, vector, **options)


def test_methods_at_no_strength_give_the_reconstruction(context):  # noqa: F811
    vector = load_vector(context.input("editing") / "vectors" / "smile.safetensors")
    G = load_generator(context.input("generator") / "G_ema.safetensors")
    w_plus = load_latents(context.input("encoder") / "latents.safetensors")["test"]
    methods = load_methods(context.root / "outputs", G, vector, batch=4, device=torch.device("cpu"))
    plain = methods["editgan"](w_plus, 0.0)
    for name, method in methods.items():
        assert torch.equal(method(w_plus, 0.0), plain), name
        assert not torch.equal(method(w_plus, 1.0), plain), name


@pytest.mark.parametrize("bad", [(), (0, 1), (2, 1), (1, 1)])
def test_strengths_rise_from_above_nothing(bad):
    SweepParams(**VALUES)
    with pytest.raises(ValidationError):
        SweepParams(**VALUES | {"editgan": bad})
