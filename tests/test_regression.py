"""The nightly decision: what is called worse, what is not, and how often it is wrong."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from editgan.config import NightlyParams, ToleranceParams, load_params
from editgan.environment import PROJECT_ROOT
from editgan.errors import UserError
from editgan.regression import (
    AT_ONCE,
    DIRECTIONS,
    FILES,
    Figures,
    accept,
    changes,
    direction,
    family,
    is_watched,
    judged,
    load_figures,
    paired_intervals,
    tolerances_of,
)
from editgan.weights import save_tensors, write_json

HEADS = 400
PARAMS = load_params(PROJECT_ROOT / "params.yaml").nightly.model_copy(update={"bootstrap": 4000})
COLUMNS = {"smiling_judge": None, "identity_mobilefacenet": 0.7, "lpips_alex": 0.07, "leak_to_input": 0.018}


def figures(seed: int = 0, heads: int = HEADS) -> Figures:
    """Rows with figures of each head and of all at once, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    said = {}
    for row in ("input", "reconstruction", "editgan_plus", "interfacegan", "interfacegan_pasted"):
        for column, mean in COLUMNS.items():
            drawn = torch.rand(heads, generator=generator)
            said[f"{row}.{column}"] = 100.0 * (drawn < 0.6) if mean is None else mean * (0.5 + drawn)
    at_once = {f"editgan_plus.{name}": value for name, value in (("fid400_efflite0", 30.0), ("kid400_efflite0", 0.03))}
    return Figures(heads=said, at_once=at_once | {"editgan_plus.area_judge": 80.0}, data={"renderer": 1})


def with_changed(before: Figures, key: str, change) -> Figures:
    if key in before.at_once:
        return Figures(before.heads, {**before.at_once, key: change(before.at_once[key])}, before.data)
    return Figures({**before.heads, key: change(before.heads[key].clone())}, before.at_once, before.data)


def regressions(accepted: Figures, tonight: Figures) -> list[str]:
    return [f"{one.row}.{one.column}" for one in changes(accepted, tonight, PARAMS, seed=0) if one.regressed]


def no_longer_smiling(count: int):
    def change(said):
        said[said.nonzero().flatten()[:count]] = 0.0
        return said

    return change


def test_equal_night_has_no_change():
    found = changes(figures(), figures(), PARAMS, seed=0)
    assert {one.difference for one in found} == {0.0} and not any(one.regressed for one in found)
    assert all(one.interval in (None, (0.0, 0.0)) for one in found)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("editgan_plus.smiling_judge", no_longer_smiling(40)),  # 10 points of 400
        ("interfacegan.identity_mobilefacenet", lambda said: said - 0.03),
        ("interfacegan_pasted.leak_to_input", lambda said: 1.1 * said),
        ("reconstruction.lpips_alex", lambda said: said + 0.005),
        ("editgan_plus.fid400_efflite0", lambda value: value + 2),
        ("editgan_plus.area_judge", lambda value: value - 5),
    ],
)
def test_planted_worsening_is_named_and_nothing_else(key, change):
    accepted = figures()
    assert regressions(accepted, with_changed(accepted, key, change)) == [key]
    first, *_ = changes(accepted, with_changed(accepted, key, change), PARAMS, seed=0)
    assert str(first).startswith(f"{key.split('.')[1]} of {key.split('.')[0]} {first.difference:+.4g}")


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("editgan_plus.smiling_judge", lambda said: torch.full_like(said, 100.0)),
        ("interfacegan.identity_mobilefacenet", lambda said: said + 0.2),
        ("interfacegan_pasted.leak_to_input", lambda said: 0.5 * said),
        ("editgan_plus.kid400_efflite0", lambda value: 0.0),
    ],
)
def test_improvement_is_no_regression(key, change):
    accepted = figures()
    assert regressions(accepted, with_changed(accepted, key, change)) == []


def test_worsening_within_the_tolerance_is_none():
    accepted = figures()
    assert regressions(accepted, with_changed(accepted, "editgan_plus.smiling_judge", no_longer_smiling(7))) == []
    tonight = with_changed(accepted, "editgan_plus.identity_mobilefacenet", lambda said: said - 0.009)
    assert regressions(accepted, tonight) == []
    assert (
        regressions(accepted, with_changed(accepted, "editgan_plus.fid400_efflite0", lambda value: value + 1.4)) == []
    )


@pytest.mark.parametrize("row", ["editgan", "editgan_30", "editgan_pasted", "editgan_30_pasted"])
def test_rows_of_one_vector_have_tolerances_of_their_own(row):
    key = f"{row}.identity_mobilefacenet"
    accepted = Figures({key: figures().heads["editgan_plus.identity_mobilefacenet"]}, {}, {})
    assert regressions(accepted, with_changed(accepted, key, lambda said: said - 0.09)) == []
    assert regressions(accepted, with_changed(accepted, key, lambda said: said - 0.11)) == [key]
    assert tolerances_of("editgan_plus_pasted", PARAMS) is PARAMS.tolerance is not PARAMS.single_vector


def test_segmentation_is_watched():
    accepted = Figures({"reconstruction.segmentation_accuracy": 90 + 5 * torch.rand(HEADS)}, {}, {})
    key = "reconstruction.segmentation_accuracy"
    assert regressions(accepted, with_changed(accepted, key, lambda said: said - 0.6)) == [key]
    assert regressions(accepted, with_changed(accepted, key, lambda said: said - 0.4)) == []


def test_worsening_that_chance_explains_is_none():
    """The mean is beyond the tolerance, but a few heads alone decide that."""
    accepted = figures()
    tonight = with_changed(
        accepted, "editgan_plus.lpips_alex", lambda said: said.index_fill(0, torch.tensor([3, 9]), 1.5)
    )
    change = next(one for one in changes(accepted, tonight, PARAMS, seed=0) if one.difference)
    assert change.difference > change.tolerance and not change.regressed


def test_smiles_of_reconstructions_are_not_watched():
    accepted = figures()
    tonight = with_changed(accepted, "reconstruction.smiling_judge", lambda said: 0 * said)
    assert regressions(accepted, tonight) == []


@pytest.mark.parametrize("change", [lambda said: 0 * said, lambda said: torch.full_like(said, 100.0)])
def test_photos_are_to_look_the_same_to_the_judges(change):
    """A judge in the place of another may call more of everything smiling, which is no progress."""
    accepted = figures()
    tonight = with_changed(accepted, "input.smiling_judge", change)
    assert regressions(accepted, tonight) == ["input.smiling_judge"]
    assert changes(accepted, tonight, PARAMS, seed=0)[0].cells()["better"] == "neither"


def test_what_is_no_number_is_worse():
    accepted = figures()
    for key in ("editgan_plus.lpips_alex", "editgan_plus.fid400_efflite0"):
        assert key in regressions(accepted, with_changed(accepted, key, lambda value: value * float("nan")))


def test_other_heads_and_lost_figures_are_refused():
    accepted = figures()
    with pytest.raises(UserError, match="not those of the baseline.*editgan accept"):
        changes(accepted, Figures(accepted.heads, accepted.at_once, {"renderer": 2}), PARAMS, seed=0)
    heads = {key: said for key, said in accepted.heads.items() if key != "editgan_plus.lpips_alex"}
    with pytest.raises(UserError, match=r"lacks what the baseline has: editgan_plus\.lpips_alex"):
        changes(accepted, Figures(heads, accepted.at_once, accepted.data), PARAMS, seed=0)


def test_every_figure_of_the_benchmark_has_a_direction():
    metrics = json.loads((PROJECT_ROOT / "outputs" / "benchmark" / "metrics.json").read_text())
    rows = next(rows for group, rows in metrics.items() if group.startswith("smile_test"))
    columns = {column for of in rows.values() for column in of}
    assert all(direction(column) for column in columns)
    assert {family(column) for column in columns} | {"area"} == set(DIRECTIONS) == set(ToleranceParams.model_fields)
    assert is_watched("editgan_plus.smiling_judge") and is_watched("truly_smiling.smiling_judge")
    assert set(AT_ONCE) <= set(DIRECTIONS)


def test_intervals_are_those_of_an_independent_library():
    rng = np.random.default_rng(0)
    differences = rng.normal([0.3, -1.0], [1.0, 4.0], (200, 2))
    low, high = paired_intervals(torch.tensor(differences), 0.95, resamples=20000, seed=0)
    for column in range(2):
        values = (differences[:, column],)
        expected = bootstrap(values, np.mean, n_resamples=20000, method="percentile", rng=rng).confidence_interval
        np.testing.assert_allclose([low[column], high[column]], expected, atol=0.03 * differences[:, column].std())


def test_false_alarms_are_as_rare_as_promised():
    """With no tolerance at all, on nights that differ by chance alone: 20 figures, 2.5 % of nights at the most."""
    zero = dict.fromkeys(DIRECTIONS, 0.0)
    alike = {name: 0.0 for name in zero if name != "segmentation_accuracy"}
    none = NightlyParams(bootstrap=4000, tolerance=zero, single_vector=alike)
    generator, nights, alarms = torch.Generator().manual_seed(0), 200, 0
    for _ in range(nights):
        before = {f"editgan_plus.identity_{index}": torch.randn(100, generator=generator) for index in range(20)}
        after = {key: said + torch.randn(100, generator=generator) for key, said in before.items()}
        found = changes(Figures(before, {}, {}), Figures(after, {}, {}), none, seed=0)
        alarms += any(one.regressed for one in found)
    assert alarms <= 0.08 * nights, "2.5 %, and what the bootstrap of 100 heads adds to it"


def written(folder, said: Figures):
    """The files of stage benchmark."""
    rows: dict[str, dict[str, float]] = {}
    for key, values in said.heads.items():
        row, column = key.split(".")
        rows.setdefault(row, {})[column] = round(float(values.double().mean()), 6)
    areas: dict[str, dict[str, float]] = {}
    for key, value in said.at_once.items():
        row, column = key.split(".")
        into = areas if column.startswith("area_") else rows
        into.setdefault(row, {})[column.removeprefix("area_")] = value
    metrics = {f"smile_test{HEADS}": rows, f"area_test{HEADS}": areas, "heads": HEADS}
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "intervals.json", {})
    save_tensors(folder / "heads.safetensors", said.heads, {"data": said.data})
    return folder


def test_accepted_figures_are_kept_byte_for_byte_and_compared_with(tmp_path):
    outputs = tmp_path / "outputs"
    written(outputs / "benchmark", figures())
    baseline = accept(outputs, tmp_path)
    assert baseline == tmp_path / "baseline" / "benchmark"
    first = {name: (baseline / name).read_bytes() for name in FILES}
    assert first == {name: (outputs / "benchmark" / name).read_bytes() for name in FILES}
    assert sum(map(len, first.values())) < 300_000
    assert load_figures(baseline).at_once == figures().at_once
    worse = with_changed(figures(), "editgan_plus.area_judge", lambda value: value - 5)
    written(outputs / "benchmark", worse)
    (regressed,) = [one for one in judged(tmp_path, PARAMS, seed=0) if one.regressed]
    assert (regressed.column, regressed.difference, regressed.interval) == ("area_judge", -5.0, None)


def test_a_judge_in_the_place_of_another_is_refused(tmp_path):
    """Its figures may even be better."""
    outputs = tmp_path / "outputs"
    written(outputs / "benchmark", figures())
    save_tensors(outputs / "judges" / "judge.safetensors", {"weight": torch.zeros(2)})
    save_tensors(outputs / "assets" / "fer.safetensors", {"weight": torch.ones(2)})
    accept(outputs, tmp_path)
    assert not any(one.regressed for one in judged(tmp_path, PARAMS, seed=0))
    save_tensors(outputs / "judges" / "judge.safetensors", {"weight": torch.ones(2)})
    with pytest.raises(UserError, match=r"not what judged the baseline \(judges/judge\)"):
        judged(tmp_path, PARAMS, seed=0)


def test_only_a_whole_benchmark_of_one_run_is_accepted(tmp_path):
    folder = written(tmp_path / "outputs" / "benchmark", figures())
    written(tmp_path / "other", figures(seed=1))
    (folder / "metrics.json").write_bytes((tmp_path / "other" / "metrics.json").read_bytes())
    with pytest.raises(UserError, match="heads.safetensors and metrics.json differ in"):
        accept(tmp_path / "outputs", tmp_path)
    (folder / "heads.safetensors").unlink()
    with pytest.raises(UserError, match="heads.safetensors: missing"):
        accept(tmp_path / "outputs", tmp_path)
    assert not (tmp_path / "baseline").exists()


@pytest.fixture
def script(monkeypatch):
    """benchmarks/nightly.py as a module."""
    monkeypatch.syspath_prepend(PROJECT_ROOT / "benchmarks")
    import nightly

    return nightly


def test_script_plants_what_it_says(script):
    generator, accepted = torch.Generator().manual_seed(0), figures()
    for key, size in (("editgan_plus.smiling_judge", -8.0), ("editgan_plus.identity_mobilefacenet", -0.02)):
        said = accepted.heads[key]
        after = script.planted(said, key.split(".")[1], -size, generator)
        assert float((after - said).double().mean()) == pytest.approx(size, abs=1e-4)
    before, after = script.night(accepted, 0.1, generator)
    moved = torch.stack([before.heads[key] != after.heads[key] for key in before.heads]).any(0)
    assert 0.05 < moved.float().mean() < 0.15, "one head has all figures of another"


def test_script_finds_planted_regressions_and_no_others(script):
    options = dict(row="editgan_plus", churn=0.02, nights=3, seed=0)
    caught, others = script.rates(figures(), PARAMS, size=6.0, **options)
    assert caught == dict.fromkeys(("smiling", "identity", "lpips_alex", "leak"), 1.0) and others == 0
    assert script.rates(figures(), PARAMS, size=0.0, **options) == ({}, 0)


@pytest.fixture
def nights(monkeypatch):
    """benchmarks/nights.py as a module."""
    monkeypatch.syspath_prepend(PROJECT_ROOT / "benchmarks")
    import nights

    return nights


def test_finished_nights_are_read_again_unless_the_models_are_others(nights, tmp_path):
    made = []

    def make():
        made.append(1)
        return {"editgan.leak_to_input": torch.rand(8)}, {"editgan.fid400_efflite0": 30.0}

    first = nights.kept(tmp_path / "seed-1.safetensors", {"S": "abc"}, make)
    again = nights.kept(tmp_path / "seed-1.safetensors", {"S": "abc"}, make)
    assert len(made) == 1 and again[1] == first[1]
    assert torch.equal(again[0]["editgan.leak_to_input"], first[0]["editgan.leak_to_input"])
    nights.kept(tmp_path / "seed-1.safetensors", {"S": "def"}, make)
    assert len(made) == 2


def test_broken_and_retrained_nights_are_told(nights, capsys):
    accepted = figures()
    key = "editgan_plus.identity_mobilefacenet"
    worse = nights.whole(accepted, ({key: accepted.heads[key] - 0.05}, {}))
    nights.report_quiet({"accepted": accepted, "seed 1": worse}, PARAMS)
    text = capsys.readouterr().out
    assert "| accepted | seed 1 | identity_mobilefacenet of editgan_plus -0.05" in text
    assert "| seed 1 | accepted | nothing |" in text and "false alarms: 1 of 2 pairs" in text
    nights.report_broken(accepted, [("kind, 1", worse), ("kind, 2", accepted)], PARAMS)
    text = capsys.readouterr().out
    assert "| kind, 2 | NOT CAUGHT |" in text and "| kind | 2 | 50 % |" in text
    said = {
        f"editgan_plus.smiling_{judge}": torch.full((HEADS,), 100.0 * (judge == "judge")) for judge in ("judge", "fer")
    }
    other = Figures(said, {}, {})
    assert not nights.swapped(other, "judge", "fer").heads["editgan_plus.smiling_judge"].any()
