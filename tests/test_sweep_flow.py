"""Sweeps of parameters: which combinations, what they are called, and what is left of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from fake_project import environment, make_project, processes_in

from editgan.errors import UserError
from flows.sweep import experiment_names, grid, main

# One stage, whose figures depend on two parameters, and which fails for one value.
BENCHMARK = """stages:
  benchmark:
    cmd: exec python benchmark.py
    deps: [benchmark.py]
    params: [seed, editing.edit.steps]
    metrics:
    - outputs/benchmark/metrics.json:
        cache: false
"""
FIGURES = """
import json, os, sys, yaml
from pathlib import Path
params = yaml.safe_load(Path("params.yaml").read_text())
seed, steps = params["seed"], params["editing"]["edit"]["steps"]
if seed == 3:
    sys.exit("benchmark: told to fail")
Path("outputs/benchmark").mkdir(parents=True, exist_ok=True)
figures = {"smile_test400": {"editgan": {"l2": seed + steps / 1000}}}
Path("outputs/benchmark/metrics.json").write_text(json.dumps(figures))
with open(os.environ["SEEN"], "a") as file:
    print(os.environ["EDITGAN_TRACKING_URI"], os.environ["MLFLOW_PARENT_RUN_ID"], Path.cwd(), file=file)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = make_project(tmp_path_factory.mktemp("sweep") / "project")
    (root / "benchmark.py").write_text(FIGURES)
    (root / "dvc.yaml").write_text(BENCHMARK)
    for command in ("add --all", "-c user.name=test -c user.email=test commit --quiet -m benchmark"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)
    return root


def swept(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    inside = environment(root) | {"SEEN": str(root.parent / "seen"), "COLUMNS": "160"}
    command = [sys.executable, "-m", "flows.sweep", *arguments]
    return subprocess.run(command, cwd=root, env=inside, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
def test_every_combination_becomes_an_experiment_and_a_failure_stops_none(root):
    from mlflow import MlflowClient

    done = swept(root, "--set", "seed=1,3,2", "--set", "editing.edit.steps=7")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "1 of 3 experiments failed: seed=3,steps=7" in done.stderr and "benchmark: told to fail" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    table = done.stderr[done.stderr.index("benchmark: metrics that differ") :]
    assert "1.007" in table and "2.007" in table, "the second beside the first"
    dvc = [sys.executable, "-m", "dvc", "exp", "list", "--name-only"]
    kept = subprocess.run(dvc, cwd=root, env=environment(root), capture_output=True, text=True, check=True).stdout
    assert sorted(kept.split()) == ["seed=1,steps=7", "seed=2,steps=7"]
    assert subprocess.check_output(["git", "status", "--short"], cwd=root, text=True) == "", (
        "the working tree is as it was"
    )

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    runs = {
        run.info.run_name: run for run in client.search_runs([client.get_experiment_by_name("editgan").experiment_id])
    }
    assert {name: run.info.status for name, run in runs.items()} == {
        "seed=1,steps=7": "FINISHED", "seed=3,steps=7": "FAILED", "seed=2,steps=7": "FINISHED"
    }  # fmt: skip
    assert runs["seed=2,steps=7"].data.params == {"seed": "2", "editing.edit.steps": "7"}
    seen = [line.split() for line in (root.parent / "seen").read_text().splitlines()]
    assert [(uri, parent) for uri, parent, _ in seen] == [
        (f"sqlite:///{root / 'mlflow.db'}", runs[f"seed={seed},steps=7"].info.run_id) for seed in (1, 2)
    ]
    assert not processes_in(root)

    again = swept(root, "--set", "seed=2", "--set", "editing.edit.steps=7")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len((root.parent / "seen").read_text().splitlines()) == 2, "DVC had the result of it"


def test_unknown_parameter_is_said_at_once(capsys):
    assert main(["--set", "edit.steps=5"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("edit.steps is not a parameter of params.yaml; is it ") and "editing.edit.steps" in said


def test_grid_is_every_combination():
    assert grid(["a=1,2", "b.c=[3,4],[5]"]) == [
        {"a": "1", "b.c": "[3,4]"}, {"a": "1", "b.c": "[5]"}, {"a": "2", "b.c": "[3,4]"}, {"a": "2", "b.c": "[5]"}
    ]  # fmt: skip
    for wrong, match in ((["a"], "write e.g."), (["a="], "write e.g."), (["a=1", "a=2"], "given twice")):
        with pytest.raises(UserError, match=match):
            grid(wrong)


def test_names_say_what_differs_and_git_takes_them(tmp_path):
    combinations = [{"a.steps": "1", "seed": "2"}, {"a.steps": "[1, 2]"}, {"b.rate": "0..1"}, {"b.rate": "0._1"}]
    combinations += [{"b.rate": "x" * 200}, {"b.rate": "x" * 201}, {"b.rate": "a/b:c.lock"}]
    names = experiment_names(combinations)
    assert list(names.values()) == combinations and list(names)[0] == "steps=1,seed=2"
    for name in names:
        subprocess.run(["git", "check-ref-format", f"refs/exps/ab/cd/{name}"], check=True)
        assert len(name) < 90
    assert list(experiment_names([{"a.steps": "1", "b.steps": "2"}])) == ["a.steps=1,b.steps=2"]
