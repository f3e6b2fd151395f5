"""dvc.yaml against the layout: names, order, parameters, outputs, and what makes a trained stage stale."""

import configparser
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from test_imports import own

from editgan.config import METHODS, STAGES, load_params, package_of
from editgan.errors import UserError
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.graph import ancestors, input_hash, load_graph

TRAINED = ("judges", "generator", "encoder", "segmentation", "interfacegan", "localediting", "distillation",
           "maskgan", "scoring")  # fmt: skip
GRAPH = load_graph(PROJECT_ROOT / "dvc.yaml")
FILE = yaml.safe_load((PROJECT_ROOT / "dvc.yaml").read_text())["stages"]


def options(stage: str, out: str) -> dict:
    """DVC's options of one output."""
    for kind in ("outs", "metrics", "plots"):
        for item in FILE[stage].get(kind, []):
            if isinstance(item, dict) and out in item:
                return item[out]
    return {}


def folder_of(stage: str) -> Path:
    return PROJECT_ROOT / package_of(stage).replace(".", "/")


def test_the_folder_list_is_the_pipeline():
    assert tuple(GRAPH) == STAGES
    for stage in STAGES:
        folder = folder_of(stage).parent if stage in METHODS else folder_of(stage)  # methods share their params
        assert (folder_of(stage) / "stage.py").exists() and (folder / "params.py").exists()
    written = yaml.safe_load((PROJECT_ROOT / "params.yaml").read_text())
    assert [key for key in written if key in STAGES] == list(STAGES), "sections stand in the order of the pipeline"


@pytest.mark.parametrize("name", STAGES)
def test_stage_reads_its_own_section_and_writes_its_own_folder(name):
    stage = GRAPH[name]
    assert name in stage.params and "runtime" not in stage.params
    assert name == "assets" or {"seed", "resolution"} <= set(stage.params)
    assert all(out.startswith(f"outputs/{name}/") for out in stage.outs)
    assert f"outputs/{name}/metrics.json" in stage.outs
    assert options(name, f"outputs/{name}/metrics.json") == {"cache": False}, "metrics are small and belong to git"


@pytest.mark.parametrize("name", STAGES)
def test_dependencies_exist_or_are_made(name):
    made = {out for stage in GRAPH.values() for out in stage.outs}
    for dep in GRAPH[name].deps:
        whole = {dep, *(parent.as_posix() for parent in Path(dep).parents)}
        assert whole & made or (PROJECT_ROOT / dep).exists(), dep


def test_stages_that_load_pretrained_networks_come_after_assets():
    """`dvc repro STAGE` runs what the graph says, and nothing else."""
    sources = {name: (folder_of(name) / "stage.py").read_text() for name in STAGES}
    loading = ("load_network", "load_lpips", "load_judges", "score_rows")
    loaders = [name for name, source in sources.items() if any(name in source for name in loading)]
    assert {"generator", "encoder", "editing", "benchmark", "judges", "distillation", "maskgan"} <= set(loaders)
    assert all("assets" in ancestors(GRAPH, name) for name in loaders)


def test_the_record_of_a_run_is_no_output_and_no_dependency():
    """Run ids and timings differ from run to run: they would make dvc.lock another one, and everything stale."""
    assert not [path for stage in GRAPH.values() for path in (*stage.deps, *stage.outs) if path.endswith("run.json")]


@pytest.mark.parametrize("name", TRAINED)
def test_source_files_never_make_a_trained_stage_stale(name):
    source = [dep for dep in GRAPH[name].deps if not dep.startswith("outputs/")]
    assert source == []
    params = load_params(PROJECT_ROOT / "params.yaml")
    assert getattr(params, name).recipe >= 1, "raised by hand when a code change should change the results"


@pytest.mark.parametrize("name", TRAINED)
def test_pixels_never_make_a_trained_stage_stale(name):
    """Another processor may round a pixel differently; what made the data is written in recipe and labels.json."""
    data = [dep for dep in GRAPH[name].deps if dep.startswith("outputs/data/")]
    assert set(data) <= {"outputs/data/recipe.json", "outputs/data/labels.json"}


def test_labels_are_for_stages_that_read_part_masks():
    """A new part class leaves the generator, its encoder and the judges as they are."""
    readers = {name for name, stage in GRAPH.items() if "outputs/data/labels.json" in stage.deps}
    assert readers == {"segmentation", "editing", "localediting", "maskgan", "scoring", "benchmark"}


@pytest.mark.parametrize("name", [stage for stage in STAGES if stage not in TRAINED])
def test_cheap_stages_depend_on_their_own_package(name):
    assert f"editgan/{name}" in GRAPH[name].deps


# Modules that read, write, record and run: a figure does not change with them.
CARRIERS = {
    "editgan", "editgan.assets.manifest", "editgan.config", "editgan.data.archive", "editgan.decoding",
    "editgan.encoder.encoder", "editgan.errors", "editgan.generator.principal_components", "editgan.labels",
    "editgan.runtime", "editgan.runtime.environment",
    "editgan.runtime.graph", "editgan.runtime.locks", "editgan.runtime.process",
    "editgan.runtime.progress", "editgan.runtime.stage", "editgan.runtime.tracking", "editgan.weights",
}  # fmt: skip


@pytest.mark.parametrize("name", ["samples", "editing", "benchmark", "report"])
def test_stages_that_make_figures_depend_on_every_module_that_computes_them(name):
    needed, found = {f"{package_of(name)}.stage"}, set()
    while needed:
        found |= needed
        needed = set().union(*(own(module) for module in needed)) - found
    if "outputs/data/recipe.json" in GRAPH[name].deps:  # which says what made the pictures
        found = {module for module in found if not module.startswith("editgan.data")}
    paths = {module: module.replace(".", "/") for module in found - CARRIERS}
    files = {module: path if (PROJECT_ROOT / path).is_dir() else f"{path}.py" for module, path in paths.items()}
    sources = [dep for dep in GRAPH[name].deps if dep.startswith("editgan/")]
    for module, file in files.items():
        assert any(file == dep or file.startswith(f"{dep}/") for dep in sources), module


def test_every_stage_reaches_the_benchmark_or_measures_samples():
    assert ancestors(GRAPH, "benchmark") == set(STAGES) - {"benchmark", "samples", "report"}
    assert not [name for name in STAGES if "samples" in ancestors(GRAPH, name)], "measuring ends there"


def test_the_report_is_made_from_results_and_nothing_from_it():
    """A changed sentence of the page measures nothing again."""
    assert ancestors(GRAPH, "report") == ancestors(GRAPH, "benchmark") | {"benchmark"}
    assert not [name for name in STAGES if "report" in ancestors(GRAPH, name)]
    assert not [name for name in STAGES if name != "report" and "editgan/report" in GRAPH[name].deps]
    shown = set(STAGES) | {"seed", "resolution"}
    assert set(GRAPH["report"].params) == shown, "the page lists all parameters"


def test_another_edit_makes_no_scores_stale():
    """Scoring takes an hour, and looks at two vectors."""
    found = [dep for dep in GRAPH["scoring"].deps if dep.startswith("outputs/editing")]
    scoring = load_params(PROJECT_ROOT / "params.yaml").scoring
    assert found == [f"outputs/editing/vectors/{name}.safetensors" for name in (scoring.vector, scoring.plus_vector)]
    assert "editing" in ancestors(GRAPH, "scoring")


def test_unknown_key_in_a_path_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("scoring: {vector: smile}\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  one:\n    cmd: x\n    deps: ['${scoring.vectors}.txt']\n")
    with pytest.raises(UserError, match=r"\$\{scoring.vectors\} is not a key of params.yaml"):
        load_graph(tmp_path / "dvc.yaml")


def test_training_pictures_are_no_output():
    """They are rendered when something trains: a clone that trains nothing does without."""
    assert not any("train" in out for out in GRAPH["data"].outs)


def test_settings_keep_dvc_quiet_and_the_store_inside():
    config = configparser.ConfigParser()
    config.read(PROJECT_ROOT / ".dvc" / "config")
    assert config["core"]["analytics"] == config["core"]["check_update"] == config["core"]["autostage"] == "false"
    assert config["core"]["remote"] == "store"
    url = config["'remote \"store\"'"]["url"]
    assert (PROJECT_ROOT / ".dvc" / url).resolve() == PROJECT_ROOT / "data" / "store"


def test_input_hash_follows_params_and_content(tmp_path):
    stage = GRAPH["editing"]
    for dep in stage.deps:
        path = tmp_path / dep
        if dep.startswith("editgan/"):
            path.mkdir(parents=True)
            (path / "stage.py").write_text("1")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("1")
    params = load_params(PROJECT_ROOT / "params.yaml").model_dump(mode="json")
    first = input_hash(stage, tmp_path, params)
    (tmp_path / "editgan/editing/__pycache__").mkdir()
    (tmp_path / "editgan/editing/__pycache__/stage.pyc").write_text("compiled")
    elsewhere = {**params, "runtime": {"device": "cuda"}, "generator": {"batch": 1}}
    assert input_hash(stage, tmp_path, elsewhere) == first, "what the stage does not read changes nothing"
    assert input_hash(stage, tmp_path, {**params, "seed": 1}) != first
    part = replace(stage, params=("editing.refine",))
    refine = {**params["editing"]["refine"], "steps": 7}
    first_of_part = input_hash(part, tmp_path, params)
    for key, value, same in (("heads", 9, True), ("refine", refine, False)):
        changed = {**params, "editing": {**params["editing"], key: value}}
        assert (input_hash(part, tmp_path, changed) == first_of_part) is same, "a stage may depend on part of a section"
    (tmp_path / "editgan/editing/vectors.py").write_text("2")
    assert input_hash(stage, tmp_path, params) != first


def test_order_in_the_file_must_be_an_order_to_run_in(tmp_path):
    path = tmp_path / "dvc.yaml"
    stages = {"b": {"cmd": "b", "deps": ["outputs/a/x"]}, "a": {"cmd": "a", "outs": [{"outputs/a/x": {"push": False}}]}}
    path.write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    with pytest.raises(UserError, match="stage b needs outputs/a/x of a, which is listed after it"):
        load_graph(path)
