"""One whole pipeline at params/ci.yaml size through Prefect, DVC and MLflow, in a checkout of its own."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from documents import documented_commands
from fake_project import copy_databases, environment, processes_in, run_pipeline

from editgan.config import STAGES
from editgan.runtime.environment import PROJECT_ROOT
from flows.checkout import prepare_checkout

pytestmark = pytest.mark.pipeline
MINUTES = 15  # after which a run counts as stuck


def outcomes(text: str) -> dict[str, str]:
    """What became of every stage, from the closing page."""
    ran = dict(re.findall(r"^\| (\w+) +\| (ran|restored)\b", text, re.MULTILINE))
    skipped = re.search(r"^Skipped, nothing changed: (.*)$", text, re.MULTILINE)
    return ran | dict.fromkeys(skipped[1].split(", ") if skipped else (), "skipped")


def dvc(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def status_of_the_default() -> str:
    paths = ["dvc.lock", "params.yaml", "outputs"]
    return subprocess.check_output(["git", "status", "--short", "--", *paths], cwd=PROJECT_ROOT, text=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> tuple[Path, str]:
    """A checkout with a DVC cache, MLflow store and Prefect home of its own after one run: its folder, what it said."""
    root = tmp_path_factory.mktemp("ci") / "project"
    before = status_of_the_default()
    prepare_checkout(PROJECT_ROOT, root, Path("params/ci.yaml"), cache=root.parent / "dvc-cache", results=False)
    copy_databases(root)
    archives = Path(os.environ.get("EDITGAN_ASSET_CACHE") or PROJECT_ROOT / ".cache" / "assets")
    archives.mkdir(parents=True, exist_ok=True)
    (root / ".cache" / "assets").symlink_to(archives)  # downloads are kept between tests
    done = run_pipeline(root, timeout=60 * MINUTES)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-12000:]
    print(done.stdout)
    assert status_of_the_default() == before, "the default run was disturbed"
    return root, done.stdout


def test_every_stage_runs_and_the_benchmark_is_printed(checkout):
    root, said = checkout
    assert outcomes(said) == dict.fromkeys(STAGES, "ran")
    metrics = json.loads((root / "outputs" / "benchmark" / "metrics.json").read_text())
    figures = next(rows["interfacegan"] for group, rows in metrics.items() if group.startswith("smile_test"))
    (line,) = [line for line in said.splitlines() if line.startswith("| InterFaceGAN ")]
    cells = f"| {figures['smiling_judge']:.1f} [", f"| {figures['identity_mobilefacenet']:.3f} ["
    assert all(cell in line for cell in cells)
    page = said[said.index("# Smile benchmark on") :].splitlines()
    assert len(page) <= 40, "the closing page fits a screen"
    assert any(line.startswith("- outputs/report/index.html: ") for line in page)
    report = (root / "outputs" / "report" / "index.html").read_text()
    assert f"{figures['smiling_judge']:.1f} [" in report and "<h2>Known failures</h2>" in report
    for stage in STAGES:
        assert json.loads((root / "outputs" / stage / "metrics.json").read_text())
        assert json.loads((root / "outputs" / stage / "run.json").read_text())["run_id"]
        states = [path for path in (root / "work" / stage).iterdir() if path.is_dir()]
        assert [(path / "finished").exists() for path in states] == [True], "one state, finished"
    assert not any((root.parent / "home").iterdir()), "nothing is written outside of the project"
    assert not processes_in(root)


def test_record_holds_a_parent_and_a_child_for_every_stage(checkout):
    from mlflow import MlflowClient

    root, _ = checkout
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("editgan")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"pipeline", *STAGES}
    parent = runs["pipeline"]
    for stage in STAGES:
        tags = runs[stage].data.tags
        assert runs[stage].info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["mlflow.source.git.commit"] and tags["input_hash"]
        assert parent.data.tags[f"stage.{stage}.run_id"] == runs[stage].info.run_id
        assert runs[stage].data.params["resolution"] == "32"
    generator = runs["generator"].info.run_id
    assert any(key for key in runs["generator"].data.metrics)
    assert client.list_artifacts(generator, "images"), "grids of samples"


def test_notebook_runs_and_every_picture_is_one(checkout, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(checkout[0])
    notebook = json.loads((PROJECT_ROOT / "docs" / "editing.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    namespace: dict = {}
    for cell in cells:
        *statements, last = ast.parse(cell).body
        exec(compile(ast.Module(statements, []), "<notebook>", "exec"), namespace)
        value = eval(compile(ast.Expression(last.value), "<notebook>", "eval"), namespace)
        assert isinstance(value, Image.Image) or cell == cells[0], "it ends with a picture"
    assert len(cells) == 7


def test_dvc_shows_metrics_and_plots(checkout):
    root, _ = checkout
    shown = json.loads(dvc(root, "metrics", "show", "--json"))[""]["data"]
    assert {Path(path).parent.name for path in shown} == set(STAGES)
    plots = json.loads(dvc(root, "plots", "show", "--json"))
    assert not plots.get("errors"), plots["errors"]
    assert len(plots["data"]) == len(yaml.safe_load((root / "dvc.yaml").read_text())["plots"])
    for name, drawn in plots["data"].items():
        picture = name.endswith(".png")
        assert any(plot["type"] == "image" if picture else plot["content"]["data"]["values"] for plot in drawn), name
    assert dvc(root, "status").strip() == "Data and pipelines are up to date."


def test_second_run_skips_every_stage(checkout):
    root, _ = checkout
    lock = (root / "dvc.lock").read_bytes()
    again = run_pipeline(root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert outcomes(again.stdout) == dict.fromkeys(STAGES, "skipped")
    assert (root / "dvc.lock").read_bytes() == lock


def test_other_pixels_make_no_trained_stage_stale(checkout):
    """Another processor may round a pixel differently when it renders the data again."""
    root, _ = checkout
    archive = root / "outputs" / "data" / "val.zip"
    whole = archive.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    archive.unlink()  # it may be a link into the cache
    archive.write_bytes(changed)
    status = json.loads(dvc(root, "status", "--json"))
    archive.write_bytes(whole)
    assert list(status) == ["data"] and "outputs/data/val.zip" in json.dumps(status["data"])


def test_changed_editing_parameter_reruns_editing_and_what_measures_it_only(checkout):
    root, _ = checkout
    params = root / "params.yaml"
    changed = re.sub(r"(?m)^(  edit:\n    steps:) \d+", r"\1 11", params.read_text())
    assert changed != params.read_text()
    params.write_text(changed)
    vectors = [root / "outputs" / "editing" / "vectors" / f"{name}.safetensors" for name in ("smile", "smile_mean")]
    before = [path.read_bytes() for path in vectors]
    again = run_pipeline(root)
    assert again.returncode == 0, again.stdout + again.stderr
    swept = "ran" if [path.read_bytes() for path in vectors] != before else "skipped"  # it measures the vectors alone
    expected = dict.fromkeys(STAGES, "skipped") | {
        "editing": "ran",
        "scoring": swept,
        "benchmark": "ran",
        "report": "ran",
    }
    assert outcomes(again.stdout) == expected


NOT_RUN = {  # documented commands that other tests run, or none can
    "make": "they make an environment, run the default pipeline or servers",
    "mlflow models": "test_served.py",
    "prefect": "test_serve.py; work pools of a team need its servers",
    "dvc remote": "needs a bucket", "dvc push": "needs a bucket", "dvc pull": "test_shipped.py",
    "dvc checkout": "test_failures.py", "dvc exp": "test_sweep_flow.py",
    "python -m flows.pipeline": "the fixture, and test_flows.py with these options",
    "python -m flows.sweep": "test_sweep_flow.py",
    "python benchmarks/": "hours", "python scripts/": "needs a browser",
    "editgan compare": "test_compare.py", "editgan accept --outputs": "test_nightly.py",
    "editgan studio": "test_studio_browser.py", "editgan apply --session": "test_session.py",
    "editgan apply photo.jpg": "test_photo.py", "editgan edit photo.jpg": "test_photo.py",
    "editgan new-class": "test_new_class.py",
    "editgan sample --outputs runs/": "the run of cars takes minutes; test_release.py samples from such a folder",
    "labelme": "draws in a window", "editgan import": "test_importing.py, test_pipeline_photos.py, test_release.py",
    "editgan train segmentation": "test_release.py", "editgan sample --count 40": "test_release.py",
    "editgan sample --count 8 --outputs": "test_release.py", "editgan embed face.png": "test_release.py",
    "editgan segment face.png": "test_release.py",
    "editgan doctor --fix": "test_doctor.py", "editgan apply head.png --edit surprise": "an edit that a reader adds",
}  # fmt: skip


@pytest.mark.slow
def test_documented_commands_run(checkout):
    import torch
    from PIL import Image

    from editgan.data.archive import load_classes, load_images, load_masks
    from editgan.images import save_mask

    root, _ = checkout
    heads = load_images(root / "outputs/data/val.zip", range(20)).transpose(0, 2, 3, 1)
    Image.fromarray(heads[0]).save(root / "head.png")
    (root / "pictures").mkdir()
    for index, head in enumerate(heads):
        Image.fromarray(head).save(root / f"pictures/{index}.png")
    shutil.copytree(root / "pictures", root / "data/pictures/mine/images")
    shutil.copy(root / "outputs/data/classes.json", root / "data/pictures/mine")
    ran = []
    for words in documented_commands():
        if any(" ".join(words).startswith(left_out) for left_out in NOT_RUN):
            continue
        words = ["segmentation" if word == "STAGE" else word for word in words]
        if words[:2] == ["editgan", "edit"]:  # a person has painted on what `editgan segment` wrote
            painted = torch.as_tensor(load_masks(root / "outputs/data/val.zip", [1])[0])
            save_mask(root / "edited/head_mask.png", painted, load_classes(root / "outputs/data/classes.json").palette)
        done = subprocess.run(
            [sys.executable, "-m", "editgan.cli.pictures", *words[1:]] if words[0] == "editgan" else words,
            cwd=root, env=environment(root), capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        ran.append(" ".join(words))
    assert "editgan apply head.png --edit smile=1.2 --edit mine=0.5 --refine 30" in ran and len(ran) > 8, ran
