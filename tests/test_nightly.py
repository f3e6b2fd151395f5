"""The nightly decision: what is called worse, what is not, and how often it is wrong."""

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from editgan.errors import UserError
from editgan.report.nightly import (
    AT_ONCE,
    BASELINE,
    FILES,
    WATCHED,
    Figures,
    Key,
    NightlyParams,
    SamplesTolerance,
    ToleranceParams,
    accept,
    changes,
    is_watched,
    judged,
    load_figures,
    load_results,
    load_tolerances,
    named,
    paired_intervals,
    tolerances_of,
)
from editgan.runtime.environment import PROJECT_ROOT
from editgan.scoring.scores import save_heads
from editgan.scoring.table import Column, Figure, Row, Table, table_csv
from editgan.weights import save_tensors, write_bytes, write_json

HEADS = 400
REASON = "a better generator"
PARAMS = load_tolerances(PROJECT_ROOT).model_copy(update={"bootstrap": 4000})
COLUMNS = {
    Column("smiling", "judge"): None,
    Column("identity", "mobilefacenet"): 0.7,
    Column("lpips", "alex"): 0.07,
    Column("leak_to_input"): 0.018,
}
ROWS = (*map(Row, ("input", "reconstruction", "editgan_plus", "interfacegan")), Row("interfacegan", pasted=True))


def key(method: str, metric: str, network: str = "", *, pasted: bool = False) -> tuple[Row, Column]:
    return Row(method, pasted=pasted), Column(metric, network)


def figures(seed: int = 0, heads: int = HEADS) -> Figures:
    """Rows with figures of each head and of all at once, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    said = {}
    for row in ROWS:
        for column, mean in COLUMNS.items():
            drawn = torch.rand(heads, generator=generator)
            said[row, column] = 100.0 * (drawn < 0.6) if mean is None else mean * (0.5 + drawn)
    at_once = {
        key("editgan_plus", "fid", "efflite0"): 30.0,
        key("editgan_plus", "kid", "efflite0"): 0.03,
        key("editgan_plus", "area", "judge"): 80.0,
    }
    return Figures(heads=said, at_once=at_once, data={"renderer": 1})


def with_changed(before: Figures, key: Key, change) -> Figures:
    if key in before.at_once:
        return Figures(before.heads, {**before.at_once, key: change(before.at_once[key])}, before.data)
    return Figures({**before.heads, key: change(before.heads[key].clone())}, before.at_once, before.data)


def regressions(accepted: Figures, current: Figures) -> list[Key]:
    return [(one.row, one.column) for one in changes(accepted, current, PARAMS, seed=0) if one.regressed]


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
    ("what", "change"),
    [
        (key("editgan_plus", "smiling", "judge"), no_longer_smiling(40)),  # 10 points of 400
        (key("interfacegan", "identity", "mobilefacenet"), lambda said: said - 0.03),
        (key("interfacegan", "leak_to_input", pasted=True), lambda said: 1.1 * said),
        (key("reconstruction", "lpips", "alex"), lambda said: said + 0.005),
        (key("editgan_plus", "fid", "efflite0"), lambda value: value + 2),
        (key("editgan_plus", "area", "judge"), lambda value: value - 5),
    ],
)
def test_planted_worsening_is_named_and_nothing_else(what, change):
    accepted = figures()
    assert regressions(accepted, with_changed(accepted, what, change)) == [what]
    first, *_ = changes(accepted, with_changed(accepted, what, change), PARAMS, seed=0)
    assert str(first).startswith(f"{named(*what)} {first.difference:+.4g}")


@pytest.mark.parametrize(
    ("what", "change"),
    [
        (key("editgan_plus", "smiling", "judge"), lambda said: torch.full_like(said, 100.0)),
        (key("interfacegan", "identity", "mobilefacenet"), lambda said: said + 0.2),
        (key("interfacegan", "leak_to_input", pasted=True), lambda said: 0.5 * said),
        (key("editgan_plus", "kid", "efflite0"), lambda value: 0.0),
    ],
)
def test_improvement_is_no_regression(what, change):
    accepted = figures()
    assert regressions(accepted, with_changed(accepted, what, change)) == []


def test_worsening_within_the_tolerance_is_none():
    accepted = figures()
    assert (
        regressions(accepted, with_changed(accepted, key("editgan_plus", "smiling", "judge"), no_longer_smiling(7)))
        == []
    )
    current = with_changed(accepted, key("editgan_plus", "identity", "mobilefacenet"), lambda said: said - 0.009)
    assert regressions(accepted, current) == []
    assert (
        regressions(accepted, with_changed(accepted, key("editgan_plus", "fid", "efflite0"), lambda value: value + 1.4))
        == []
    )


@pytest.mark.parametrize("row", [Row("editgan", pasted=pasted) for pasted in (False, True)])
def test_rows_of_one_vector_have_tolerances_of_their_own(row):
    identity = Column("identity", "mobilefacenet")
    accepted = Figures({(row, identity): figures().heads[key("editgan_plus", *identity)]}, {}, {})
    assert regressions(accepted, with_changed(accepted, (row, identity), lambda said: said - 0.09)) == []
    worse = with_changed(accepted, (row, identity), lambda said: said - 0.11)
    assert regressions(accepted, worse) == [(row, identity)]
    assert tolerances_of(Row("editgan_plus", pasted=True), PARAMS) is PARAMS.tolerance is not PARAMS.single_vector


def test_segmentation_is_watched():
    what = key("reconstruction", "segmentation_accuracy")
    accepted = Figures({what: 90 + 5 * torch.rand(HEADS)}, {}, {})
    assert regressions(accepted, with_changed(accepted, what, lambda said: said - 0.6)) == [what]
    assert regressions(accepted, with_changed(accepted, what, lambda said: said - 0.4)) == []


def test_worsening_that_chance_explains_is_none():
    """The mean is beyond the tolerance, but a few heads alone decide that."""
    accepted = figures()
    current = with_changed(
        accepted, key("editgan_plus", "lpips", "alex"), lambda said: said.index_fill(0, torch.tensor([3, 9]), 1.5)
    )
    change = next(one for one in changes(accepted, current, PARAMS, seed=0) if one.difference)
    assert change.difference > change.tolerance and not change.regressed


def test_smiles_of_reconstructions_are_not_watched():
    accepted = figures()
    current = with_changed(accepted, key("reconstruction", "smiling", "judge"), lambda said: 0 * said)
    assert regressions(accepted, current) == []


@pytest.mark.parametrize("change", [lambda said: 0 * said, lambda said: torch.full_like(said, 100.0)])
def test_photos_are_to_look_the_same_to_the_judges(change):
    """A judge in the place of another may call more of everything smiling, which is no progress."""
    accepted = figures()
    current = with_changed(accepted, key("input", "smiling", "judge"), change)
    assert regressions(accepted, current) == [key("input", "smiling", "judge")]
    assert changes(accepted, current, PARAMS, seed=0)[0].cells()["better"] == "neither"


def test_what_is_no_number_is_worse():
    accepted = figures()
    for what in (key("editgan_plus", "lpips", "alex"), key("editgan_plus", "fid", "efflite0")):
        assert what in regressions(accepted, with_changed(accepted, what, lambda value: value * float("nan")))


def test_other_heads_and_lost_figures_are_refused():
    accepted = figures()
    with pytest.raises(UserError, match="not those of the baseline.*editgan accept"):
        changes(accepted, Figures(accepted.heads, accepted.at_once, {"renderer": 2}), PARAMS, seed=0)
    lost = key("editgan_plus", "lpips", "alex")
    heads = {what: said for what, said in accepted.heads.items() if what != lost}
    with pytest.raises(UserError, match="lacks metrics of the baseline: lpips alex of editgan_plus"):
        changes(accepted, Figures(heads, accepted.at_once, accepted.data), PARAMS, seed=0)


def test_every_figure_of_the_benchmark_is_watched():
    results = load_results(PROJECT_ROOT / BASELINE / "results.csv")
    metrics = {column.metric for figures in results.values() for column in figures}
    derived = {"identity_relative", "different_people", "embedding_lpips", "embedding_l2", "embedding_identity"}
    of_samples = set(SamplesTolerance.model_fields)
    assert metrics - derived == set(WATCHED) - of_samples, "the others are derived from these"
    assert {tolerance for tolerance, _ in WATCHED.values()} == set(ToleranceParams.model_fields) | of_samples
    assert is_watched(key("editgan_plus", "smiling", "judge")) and is_watched(key("truly_smiling", "smiling", "judge"))
    assert set(AT_ONCE) <= set(WATCHED)


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
    zero = dict.fromkeys(ToleranceParams.model_fields, 0.0)
    alike = {name: 0.0 for name in zero if name != "segmentation_accuracy"}
    samples = dict.fromkeys(SamplesTolerance.model_fields, 0.0)
    none = NightlyParams(bootstrap=4000, tolerance=zero, samples=samples, compare={}, single_vector=alike)
    generator, nights, alarms = torch.Generator().manual_seed(0), 200, 0
    for _ in range(nights):
        before = {key("editgan_plus", "identity", str(k)): torch.randn(100, generator=generator) for k in range(20)}
        after = {what: said + torch.randn(100, generator=generator) for what, said in before.items()}
        found = changes(Figures(before, {}, {}), Figures(after, {}, {}), none, seed=0)
        alarms += any(one.regressed for one in found)
    assert alarms <= 0.08 * nights, "2.5 %, and what the bootstrap of 100 heads adds to it"


def test_tolerances_are_checked(tmp_path):
    path = tmp_path / "baseline" / "tolerances.yaml"
    with pytest.raises(UserError, match="tolerances.yaml: no such"):
        load_tolerances(tmp_path)
    path.parent.mkdir()
    text = (PROJECT_ROOT / "baseline" / "tolerances.yaml").read_text()
    path.write_text(text.replace("lpips: 0.003", "lpisp: -0.003"))
    with pytest.raises(UserError) as caught:
        load_tolerances(tmp_path)
    assert "tolerance.lpips: missing" in str(caught.value) and "tolerance.lpisp: unknown key" in str(caught.value)


def written(folder, said: Figures):
    """The files of stage benchmark."""
    table: Table = {}
    for (row, column), values in said.heads.items():
        table.setdefault(row, {})[column] = Figure(len(values), float(values.double().mean()))
    for (row, column), value in said.at_once.items():
        table.setdefault(row, {})[column] = Figure(HEADS, value)
    write_bytes(folder / "results.csv", table_csv(table))
    save_heads(folder / "heads.safetensors", said.heads, {"data": said.data})
    return folder


def test_accepted_figures_are_kept_byte_for_byte_and_compared_with(tmp_path):
    outputs = tmp_path / "outputs"
    written(outputs / "benchmark", figures())
    baseline = accept(outputs, tmp_path, reason=REASON)
    assert baseline == tmp_path / "baseline" / "benchmark"
    first = {name: (baseline / name).read_bytes() for name in FILES}
    assert first == {name: (outputs / "benchmark" / name).read_bytes() for name in FILES}
    assert sum(map(len, first.values())) < 300_000
    assert load_figures(baseline).at_once == figures().at_once
    worse = with_changed(figures(), key("editgan_plus", "area", "judge"), lambda value: value - 5)
    written(outputs / "benchmark", worse)
    (regressed,) = [one for one in judged(tmp_path, PARAMS, seed=0) if one.regressed]
    assert (regressed.column, regressed.difference, regressed.interval) == (Column("area", "judge"), -5.0, None)


def test_samples_are_watched(tmp_path):
    outputs = tmp_path / "outputs"
    written(outputs / "benchmark", figures())
    good = {"kid5k_alexnet": 0.13, "recall5k_alexnet": 0.2, "ppl2k_lpips_alex": 5.0}
    write_json(outputs / "samples" / "metrics.json", {"samples": good})
    baseline = accept(outputs, tmp_path, reason=REASON)
    assert (baseline / "reason.txt").read_text() == f"{REASON}\n"
    assert not any(one.difference for one in judged(tmp_path, PARAMS, seed=0))
    for name, change, worse in (("kid5k_alexnet", 0.03, True), ("kid5k_alexnet", -0.03, False),
                                ("recall5k_alexnet", -0.04, True), ("recall5k_alexnet", 0.04, False)):  # fmt: skip
        write_json(outputs / "samples" / "metrics.json", {"samples": good | {name: good[name] + change}})
        found = [named(one.row, one.column) for one in judged(tmp_path, PARAMS, seed=0) if one.regressed]
        assert found == ([f"{name} of samples"] if worse else [])
    (outputs / "samples" / "metrics.json").unlink()
    with pytest.raises(UserError, match="lacks metrics of the baseline: kid5k_alexnet of samples"):
        judged(tmp_path, PARAMS, seed=0)
    (outputs / "samples" / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="samples/metrics.json: damaged"):
        judged(tmp_path, PARAMS, seed=0)


def test_a_judge_in_the_place_of_another_is_refused(tmp_path):
    """Its figures may even be better."""
    outputs = tmp_path / "outputs"
    written(outputs / "benchmark", figures())
    save_tensors(outputs / "judges" / "judge.safetensors", {"weight": torch.zeros(2)})
    save_tensors(outputs / "assets" / "fer.safetensors", {"weight": torch.ones(2)})
    accept(outputs, tmp_path, reason=REASON)
    assert not any(one.regressed for one in judged(tmp_path, PARAMS, seed=0))
    save_tensors(outputs / "judges" / "judge.safetensors", {"weight": torch.ones(2)})
    with pytest.raises(UserError, match=r"judges of this run are not those of the baseline \(judges/judge\)"):
        judged(tmp_path, PARAMS, seed=0)


def test_only_a_whole_benchmark_of_one_run_is_accepted(tmp_path):
    folder = written(tmp_path / "outputs" / "benchmark", figures())
    written(tmp_path / "other", figures(seed=1))
    (folder / "results.csv").write_bytes((tmp_path / "other" / "results.csv").read_bytes())
    with pytest.raises(UserError, match="heads.safetensors and results.csv differ in"):
        accept(tmp_path / "outputs", tmp_path, reason=REASON)
    (folder / "heads.safetensors").unlink()
    with pytest.raises(UserError, match="heads.safetensors: missing"):
        accept(tmp_path / "outputs", tmp_path, reason=REASON)
    assert not (tmp_path / "baseline").exists()


@pytest.fixture
def script(monkeypatch):
    """benchmarks/nightly.py as a module."""
    monkeypatch.syspath_prepend(PROJECT_ROOT / "benchmarks")
    import nightly

    return nightly


def test_script_plants_what_it_says(script):
    generator, accepted = torch.Generator().manual_seed(0), figures()
    smiling, identity = key("editgan_plus", "smiling", "judge"), key("editgan_plus", "identity", "mobilefacenet")
    for what, size in ((smiling, -8.0), (identity, -0.02)):
        said = accepted.heads[what]
        after = script.planted(said, what[1].metric, -size, generator)
        assert float((after - said).double().mean()) == pytest.approx(size, abs=1e-4)
    before, after = script.night(accepted, 0.1, generator)
    moved = torch.stack([before.heads[what] != after.heads[what] for what in before.heads]).any(0)
    assert 0.05 < moved.float().mean() < 0.15, "one head has all figures of another"


def test_script_finds_planted_regressions_and_no_others(script):
    options = dict(method="editgan_plus", churn=0.02, nights=3, seed=0)
    caught, others = script.rates(figures(), PARAMS, size=6.0, **options)
    assert caught == dict.fromkeys(("smiling", "identity", "lpips", "leak"), 1.0) and others == 0
    assert script.rates(figures(), PARAMS, size=0.0, **options) == ({}, 0)


def test_finished_nights_are_read_again_unless_the_models_are_others(script, tmp_path):
    made = []
    leak, fid = key("editgan", "leak_to_input"), key("editgan", "fid", "efflite0")

    def make():
        made.append(1)
        return {leak: torch.rand(8)}, {fid: 30.0}

    first = script.kept(tmp_path / "seed-1.safetensors", {"S": "abc"}, make)
    again = script.kept(tmp_path / "seed-1.safetensors", {"S": "abc"}, make)
    assert len(made) == 1 and again[1] == first[1] == {fid: 30.0}
    assert torch.equal(again[0][leak], first[0][leak])
    script.kept(tmp_path / "seed-1.safetensors", {"S": "def"}, make)
    assert len(made) == 2


def test_broken_and_retrained_nights_are_told(script, capsys):
    accepted = figures()
    identity = key("editgan_plus", "identity", "mobilefacenet")
    worse = script.whole(accepted, ({identity: accepted.heads[identity] - 0.05}, {}))
    script.report_quiet({"accepted": accepted, "seed 1": worse}, PARAMS)
    text = capsys.readouterr().out
    assert "| accepted | seed 1 | identity mobilefacenet of editgan_plus -0.05" in text
    assert "| seed 1 | accepted | nothing |" in text and "false alarms: 1 of 2 pairs" in text
    script.report_broken(accepted, [("kind, 1", worse), ("kind, 2", accepted)], PARAMS)
    text = capsys.readouterr().out
    assert "| kind, 2 | NOT DETECTED |" in text and "| kind | 2 | 50 % |" in text
    judge, fer = (key("editgan_plus", "smiling", name) for name in ("judge", "fer"))
    other = Figures({judge: torch.full((HEADS,), 100.0), fer: torch.zeros(HEADS)}, {}, {})
    assert not script.swapped(other, "judge", "fer").heads[judge].any()
