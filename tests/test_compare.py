"""`editgan compare` and `editgan accept` on a small project with commits, a DVC experiment, runs and folders."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_project import environment, make_project
from typer.testing import CliRunner

from editgan import tracking
from editgan.cli import app
from editgan.comparison import compare, differing_params
from editgan.comparison_page import comparison_page
from editgan.errors import UserError
from editgan.revisions import find_revision
from editgan.weights import load_tensors

# Seed 0 smiles 280 of 400 times, any other seed 40 times less; the measure of the encoder does not change.
PLANT = """
import json
import numpy as np, yaml
from pathlib import Path
from PIL import Image
from safetensors.numpy import save_file

def write(path, content):
    path = Path("outputs") / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))

seed = yaml.safe_load(Path("params.yaml").read_text())["seed"]
smiling = 100 * (np.arange(400) < 280 - 40 * (seed > 0)).astype(np.float32)
mean = float(smiling.mean())
write("benchmark/metrics.json", {"smile_test400": {"editgan": {"smiling_judge": mean}}})
write("benchmark/intervals.json", {"editgan": {"smiling_judge": [mean - 4.5, mean + 4.5]}})
said = {"editgan": json.dumps({"data": {"renderer": 1}})}
save_file({"editgan.smiling_judge": smiling}, "outputs/benchmark/heads.safetensors", said)
Image.new("RGB", (8, 8), (seed, 0, 0)).save("outputs/benchmark/grid.png")
write("encoder/metrics.json", {"lpips": 0.25})
write("generator/curves/adversarial.json", [{"kimg": x, "loss": 1 / (x + seed)} for x in (1, 2, 3)])
points = [{"identity_mobilefacenet": x, "smiling_judge": 90 * (1 - x) - seed, "strength": x} for x in (0.2, 0.6)]
write("sweep/curves/editgan.json", points)
"""
GRAPH = """stages:
  benchmark:
    cmd: python plant.py
    params: [seed]
    outs:
    - outputs/benchmark/heads.safetensors
    - outputs/benchmark/intervals.json
    - outputs/benchmark/grid.png
    - outputs/generator/curves
    - outputs/sweep/curves
    metrics:
    - outputs/benchmark/metrics.json:
        cache: false
    - outputs/encoder/metrics.json:
        cache: false
"""


def run(root: Path, *command: str) -> str:
    inside = environment(root) | {"EDITGAN_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}"}
    done = subprocess.run(command, cwd=root, env=inside, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, str]:
    """A project whose HEAD has seed 0, with an experiment `tried` of seed 5, recorded in MLflow; and its run's id."""
    root = make_project(tmp_path_factory.mktemp("compare") / "project")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "plant.py").write_text(PLANT)
    dvc = (sys.executable, "-m", "dvc")
    run(root, *dvc, "repro", "--quiet")
    run(root, "git", "add", "--all")
    run(root, "git", "-c", "user.name=test", "-c", "user.email=test", "commit", "--quiet", "-m", "seed 0")
    run(root, *dvc, "exp", "run", "--temp", "--name", "tried", "-S", "seed=5", "--quiet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDITGAN_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
        stage = tracking.start_run("benchmark", root=root, params={"seed": 0}, tags={"stage": "benchmark"})
        for name in ("metrics.json", "intervals.json", "heads.safetensors"):
            stage.log_file(root / "outputs" / "benchmark" / name)
        stage.log_image(root / "outputs" / "benchmark" / "grid.png", "grid")
        stage.close()
        generator = tracking.start_run("generator", root=root, tags={"stage": "generator"})
        generator.log_file(root / "outputs" / "generator" / "curves")  # a folder, as stages log it
        generator.close()
        parent = tracking.start_run("pipeline", root=root)
        for run_of in (stage, generator):
            parent.set_tag(f"stage.{run_of.name}.run_id", run_of.run_id)
        parent.close()
        yield root, stage.run_id


@pytest.fixture
def project(made, monkeypatch) -> Path:
    monkeypatch.chdir(made[0])
    return made[0]


def command(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def compared(project: Path, *names: str):
    return compare([find_revision(name, project) for name in names])


def line(comparison, key: str):
    (found,) = [one for one in comparison.lines if one.key == key]
    return found


def test_a_commit_a_run_and_a_folder_of_the_same_are_equal(project, made):
    names = ("HEAD", made[1], made[1][:12], "latest", "outputs", ".")
    comparison = compared(project, *names)
    assert not any(one.differs for one in comparison.lines)
    smiling = line(comparison, "smile_test400.editgan.smiling_judge")
    assert smiling.values == (70.0,) * len(names) and len(set(smiling.intervals)) == 1
    assert comparison.params == {}
    assert comparison.missing["latest"] == ["encoder/metrics.json", "sweep/curves"]
    assert "generator/curves" in comparison.missing[made[1]], "another stage's run"
    assert "all 2 metrics are equal" in command("compare")


def test_experiment_is_compared_head_by_head(project):
    comparison = compared(project, "HEAD", "tried")
    smiling = line(comparison, "smile_test400.editgan.smiling_judge")
    low, high = smiling.differences[1]
    assert smiling.difference(1) == -10 and -14 < low < -10 < high < -6, "paired: as narrow as 40 of 400 changes are"
    assert smiling.verdict(1) == -1
    assert comparison.params == {"seed": ("0", "5")} and not comparison.missing
    said = command("compare", "HEAD", "tried")
    assert re.search(r"smile_test400.editgan.smiling_judge.*70 \[[\d.]+, [\d.]+\].*60 \[.*-10 \[-1\d", said), said
    assert re.search(r"seed +│ 0 +│ 5", said) and "lpips" not in said


def test_one_page_shows_curves_and_pictures_beside_each_other(project, tmp_path):
    command("compare", "HEAD", "tried", "--html", str(tmp_path / "compare.html"))
    page = (tmp_path / "compare.html").read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "Parameters that differ", "% smiling by the judge over identity to the photo", "generator, adversarial",
        "Smile edits of test heads",
    ]  # fmt: skip
    assert "generator, adversarial" in comparison_page(compared(project, "latest", "tried"))
    assert page.count("data:image/png;base64,") == 4 and page.count("<figcaption>") == 2
    assert "http" not in page and "lpips" in page, "nothing is fetched, and equal metrics are there, too"
    assert 'class="worse"' in page
    again = comparison_page(compared(project, "HEAD", "tried"))
    assert again == page, "the same bytes each time"


def test_missing_outputs_are_named_and_not_fatal(project, tmp_path):
    """In a clone without the cache git still has metrics and parameters, and stored intervals do where heads lack."""
    clone = tmp_path / "clone"
    run(project, "git", "clone", "--quiet", str(project), str(clone))
    bare = find_revision("HEAD", clone)
    folder = tmp_path / "outputs"
    shutil.copytree(project / "outputs", folder)
    (folder / "benchmark" / "heads.safetensors").unlink()
    comparison = compare([find_revision(str(folder), project), bare])
    smiling = line(comparison, "smile_test400.editgan.smiling_judge")
    assert smiling.values == (70.0, 70.0) and smiling.intervals[0] and smiling.intervals[1] is None
    assert smiling.differences == (None, None)
    assert comparison.missing == {
        "HEAD": ["benchmark/grid.png", "benchmark/intervals.json", "generator/curves", "sweep/curves"]
    }


def test_damaged_figures_are_named(project, tmp_path):
    folder = tmp_path / "outputs"
    shutil.copytree(project / "outputs", folder)
    (folder / "benchmark" / "metrics.json").write_text('{"smile_test400": {')
    with pytest.raises(UserError, match="benchmark/metrics.json of .*: damaged"):
        compare([find_revision(str(folder), project), find_revision("HEAD", project)])


@pytest.mark.parametrize("name", ["nothing", "0123456789ab", "params", "--upload-pack=x"])
def test_unknown_revisions_are_refused_with_what_there_is(project, name):
    with pytest.raises(UserError, match=r"no git revision or DVC experiment \(experiments here: tried\)"):
        find_revision(name, project)


def test_parameters_of_a_section_that_a_revision_does_not_know_are_no_difference():
    first = {"seed": "0", "sweep.batch": "16", "benchmark.batch": "50"}
    assert differing_params([first, {"seed": "1", "sweep.batch": "16"}]) == {"seed": ("0", "1")}
    assert differing_params([first, first | {"sweep.recipe": "1"}]) == {"sweep.recipe": (None, "1")}


def test_a_record_and_a_params_file_spell_a_value_alike(project, made):
    from editgan.revisions import _plain

    assert _plain("(0.25, 1.0)") == _plain([0.25, 1]) == "[0.25, 1]"
    assert _plain("1.0") == _plain(1) == "1" and _plain("smile") == "smile" and _plain(None) == _plain("None")


def test_accepted_baseline_is_a_folder_to_compare_with(project):
    assert "commit that folder" in command("accept")
    kept = project / "baseline" / "benchmark"
    assert load_tensors(kept / "heads.safetensors")[1] == {"data": {"renderer": 1}}
    comparison = compared(project, "baseline", "tried")
    assert line(comparison, "smile_test400.editgan.smiling_judge").verdict(1) == -1
    assert "parameters of baseline are not known" in command("compare", "baseline", "tried")
    shutil.rmtree(project / "baseline")


def test_accept_says_what_is_missing(project, tmp_path):
    done = CliRunner().invoke(app, ["accept", "--outputs", str(tmp_path)])
    assert done.exit_code == 1 and "heads.safetensors: missing" in done.output
