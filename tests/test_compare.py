"""`editgan compare` and `editgan accept` on a small project with commits, a DVC experiment and folders."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_project import environment, make_project
from typer.testing import CliRunner

from editgan.cli.pictures import app
from editgan.errors import UserError
from editgan.report.comparison import HEADLINES, find_run, verdict
from editgan.runtime.environment import PROJECT_ROOT

# Seed 0 smiles 280 of 400 times, any other seed 40 times less; the embedding does not change.
PLANT = """
import torch, yaml
from pathlib import Path
from editgan.scoring.scores import save_heads
from editgan.scoring.table import Column, Figure, Row, metrics_of, table_csv
from editgan.weights import write_bytes, write_json

seed, out = yaml.safe_load(Path("params.yaml").read_text())["seed"], Path("outputs/benchmark")
row, smiling = Row("editgan_plus_30", 2.5), Column("smiling", "judge")
said = 100.0 * (torch.arange(400) < 280 - 40 * (seed > 0))
table = {row: {smiling: Figure(400, float(said.mean())), Column("identity", "mobilefacenet"): Figure(400, 0.75)}}
table[Row("encoder_and_optimisation")] = {Column("embedding_lpips", "alex"): Figure(100, 0.05)}
write_bytes(out / "results.csv", table_csv(table))
write_json(out / "metrics.json", metrics_of(table))
save_heads(out / "heads.safetensors", {(row, smiling): said}, {"data": {"renderer": 1}})
write_json("outputs/segmentation/metrics.json", {"miou_test400": 0.5, "miou_val100": 0.5 + seed / 100})
"""
GRAPH = """stages:
  benchmark:
    cmd: python plant.py
    params: [seed]
    outs:
    - outputs/benchmark/heads.safetensors
    - outputs/benchmark/results.csv
    metrics:
    - outputs/benchmark/metrics.json:
        cache: false
    - outputs/segmentation/metrics.json:
        cache: false
"""
SMILING = "EditGAN+, refined: % smiling, judge"


def run(root: Path, *command: str) -> str:
    inside = environment(root) | {"PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run(command, cwd=root, env=inside, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A project whose HEAD has seed 0, with an experiment `tried` of seed 5."""
    root = make_project(tmp_path_factory.mktemp("compare") / "project")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "plant.py").write_text(PLANT)
    dvc = (sys.executable, "-m", "dvc")
    run(root, *dvc, "repro", "--quiet")
    run(root, "git", "add", "--all")
    run(root, "git", "-c", "user.name=test", "-c", "user.email=test", "commit", "--quiet", "-m", "seed 0")
    run(root, *dvc, "exp", "run", "--temp", "--name", "tried", "-S", "seed=5", "--quiet")
    return root


@pytest.fixture
def project(made, monkeypatch) -> Path:
    monkeypatch.chdir(made)
    return made


def command(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_a_commit_and_a_folder_of_the_same_are_equal(project):
    runs = [find_run(name, project) for name in ("HEAD", "outputs", ".")]
    assert runs[0].metrics == runs[1].metrics == runs[2].metrics
    assert runs[0].metrics["benchmark"]["smile_test400"]["editgan_plus_30"]["smiling_judge"] == 70.0
    assert runs[0].params == runs[2].params and runs[0].params["seed"] == 0
    said = command("compare")
    assert SMILING in said and "same" in said and "worse" not in said and "better" not in said


def test_experiment_is_called_worse_beyond_the_tolerance(project):
    said = command("compare", "HEAD", "tried")
    assert re.search(rf"{re.escape(SMILING)} +│ +70 +│ +60 +│ worse +│ +4 ", said), said
    assert re.search(r"EditGAN\+, refined: identity +│ +0.75 +│ +0.75 +│ same", said)
    assert re.search(r"samples: KID, AlexNet +│ +- +│ +- +│ -", said), "what neither has is no verdict"
    assert "miou_val100" not in said and "seed" not in said
    whole = command("compare", "HEAD", "tried", "--all")
    assert re.search(r"miou_val100 +│ 0.5 +│ 0.55", whole) and re.search(r"seed +│ 0 +│ 5", whole)
    assert "miou_test400" not in whole, "equal metrics are left out"


def test_verdicts_know_which_way_is_better():
    more, less = (next(one for one in HEADLINES if one.better == sign) for sign in (1, -1))
    step = 2 * more.tolerance
    assert [verdict(more, 1.0, 1.0 + k * step) for k in (-1, 0, 1)] == ["worse", "same", "better"]
    step = 2 * less.tolerance
    assert [verdict(less, 1.0, 1.0 + k * step) for k in (-1, 0, 1)] == ["better", "same", "worse"]
    assert verdict(more, None, 1.0) == "-"


def test_the_project_has_every_headline():
    run = find_run(".", PROJECT_ROOT)
    assert len(HEADLINES) == 8 and all(one.value(run) is not None for one in HEADLINES)


def test_the_baseline_has_every_headline_except_the_segmentation():
    run = find_run("baseline", PROJECT_ROOT)
    assert [one.title for one in HEADLINES if one.value(run) is None] == ["segmentation: mIoU"]


def test_clone_without_cache_compares_by_what_git_has(project, tmp_path):
    clone = tmp_path / "clone"
    run(project, "git", "clone", "--quiet", str(project), str(clone))
    assert find_run("HEAD", clone).metrics == find_run("HEAD", project).metrics


def test_damaged_figures_are_named(project, tmp_path):
    folder = tmp_path / "outputs"
    shutil.copytree(project / "outputs", folder)
    (folder / "benchmark" / "metrics.json").write_text('{"smile_test400": {')
    with pytest.raises(UserError, match="benchmark/metrics.json: damaged"):
        find_run(str(folder), project)


@pytest.mark.parametrize("name", ["nothing", "0123456789ab", "params", "--upload-pack=x"])
def test_unknown_runs_are_refused(project, name):
    with pytest.raises(UserError, match=f"{name}: not a folder with results, and not a commit or DVC experiment"):
        find_run(name, project)


def test_accepted_baseline_is_a_folder_to_compare_with(project):
    assert "commit that folder" in command("accept", "--reason", "a reason")
    assert re.search(rf"{re.escape(SMILING)} +│ +70 +│ +60 +│ worse", command("compare", "baseline", "tried"))
    shutil.rmtree(project / "baseline")


def test_accept_says_what_is_missing(project, tmp_path):
    done = CliRunner().invoke(app, ["accept", "--reason", "a reason", "--outputs", str(tmp_path)])
    assert done.exit_code == 1 and "heads.safetensors: missing" in done.output
