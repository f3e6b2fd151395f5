"""What a bare clone brings along: the lock, the metrics and the store, and that nothing shipped is trained again."""

import hashlib
import json
import shutil
import subprocess
import sys
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_project import environment
from PIL import Image
from ruamel.yaml import YAML

from editgan.config import load_params
from editgan.data.archive import save_classes
from editgan.data.paint import CLASSES
from editgan.data.rendering import rendered_labels, rendered_recipe
from editgan.images import save_mask
from editgan.methods.maskgan.losses import Parser, predict
from editgan.report.nightly import BASELINE, load_results
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.graph import load_graph
from editgan.scoring.rows import Rows
from editgan.segmentation.ensemble import load_segmentation
from editgan.weights import load_module, write_json
from flows import stages

SHIPPED = (
    "judges", "generator", "samples", "encoder", "segmentation", "editing", "interfacegan", "localediting",
    "distillation", "maskgan", "scoring",
)  # fmt: skip
NO_NETWORK = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}


def committed(name: str) -> dict:
    """A YAML file as HEAD has it, not as the working tree does; DVC writes YAML 1.2, where 1e-05 is a number."""
    text = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=PROJECT_ROOT, capture_output=True, check=True).stdout
    return YAML(typ="safe", pure=True).load(text)


@pytest.fixture(scope="module")
def bare_clone(tmp_path_factory) -> Path:
    """A clone of HEAD with what the store gave it, no registry or other host in reach."""
    root = tmp_path_factory.mktemp("bare") / "project"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", PROJECT_ROOT, root], check=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NO_NETWORK.items():
            patch.setenv(name, value)
        assert tuple(stages.fetch_missing(root, say=print)) == SHIPPED
    return root


def dvc_status(root: Path, *names: str) -> str:
    command = [sys.executable, "-m", "dvc", "status", *names]
    done = subprocess.run(command, cwd=root, env=environment(root) | NO_NETWORK, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("stage", load_graph(PROJECT_ROOT / "dvc.yaml"))
def test_lock_is_of_the_committed_params_and_commands(stage):
    params, lock, graph = committed("params.yaml"), committed("dvc.lock"), committed("dvc.yaml")
    entry = lock["stages"][stage]
    assert entry["cmd"] == graph["stages"][stage]["cmd"]
    assert entry["params"]["params.yaml"] == {
        key: reduce(dict.__getitem__, key.split("."), params) for key in graph["stages"][stage]["params"]
    }
    made = [out if isinstance(out, str) else next(iter(out)) for out in graph["stages"][stage]["outs"]]
    assert {item["path"] for item in entry["outs"]} >= set(made)
    assert [item["path"] for item in entry["deps"]] == sorted(load_graph(PROJECT_ROOT / "dvc.yaml")[stage].deps)


def test_lock_is_of_one_run():
    """What a stage depended on is what another one left, and git's metrics are those of the lock."""
    lock = committed("dvc.lock")["stages"]
    made = {item["path"]: item["md5"] for entry in lock.values() for item in entry["outs"]}
    vectors = made["outputs/editing/vectors"]  # a folder, of which later stages read single files
    listed = json.loads((PROJECT_ROOT / "data/store/files/md5" / vectors[:2] / vectors[2:]).read_text())
    made |= {f"outputs/editing/vectors/{item['relpath']}": item["md5"] for item in listed}
    for stage, entry in lock.items():
        for item in entry["deps"]:
            if item["path"].startswith("outputs/"):
                assert made[item["path"]] == item["md5"], (stage, item["path"])
        metrics = f"outputs/{stage}/metrics.json"
        shown = subprocess.run(["git", "show", f"HEAD:{metrics}"], cwd=PROJECT_ROOT, capture_output=True, check=True)
        assert hashlib.md5(shown.stdout).hexdigest() == made[metrics], metrics


def test_lock_is_of_the_committed_source(bare_clone):
    """Where an edit changes no result, `dvc commit STAGE` says so in the lock."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=bare_clone, env=environment(bare_clone), capture_output=True, text=True)
    changed = [
        (stage, path)
        for stage, reasons in json.loads(done.stdout).items()
        for reason in reasons
        if isinstance(reason, dict)
        for path in reason.get("changed deps", {})
        if not path.startswith("outputs/")
    ]
    assert done.returncode == 0 and not changed


def test_bare_clone_restores_every_file_of_what_is_shipped_without_a_network(bare_clone):
    lock = committed("dvc.lock")["stages"]
    for stage in SHIPPED:
        for item in lock[stage]["outs"]:
            path = bare_clone / item["path"]
            assert path.exists(), path
            if path.is_file():
                assert hashlib.md5(path.read_bytes()).hexdigest() == item["md5"], path
    assert (bare_clone / "outputs" / "benchmark" / "metrics.json").is_file(), "git keeps the metrics"


@pytest.mark.assets
def test_no_shipped_stage_is_stale_once_its_inputs_are_made_again(bare_clone, assets_dir):
    """Pretrained networks convert to the same bytes, and the recipe of the data is written by parameters alone."""
    params = load_params(bare_clone / "params.yaml")
    recipe = rendered_recipe(params)
    write_json(bare_clone / "outputs" / "data" / "recipe.json", recipe)
    write_json(bare_clone / "outputs" / "data" / "labels.json", rendered_labels("heads"))
    for stage in SHIPPED:
        for dep in load_graph(bare_clone / "dvc.yaml")[stage].deps:
            if dep.startswith("outputs/assets/"):
                target = bare_clone / dep
                target.parent.mkdir(exist_ok=True)
                shutil.copy(assets_dir / target.name, target)
    assert dvc_status(bare_clone, *SHIPPED).strip() == "Data and pipelines are up to date."


def test_store_is_small():
    files = [path for path in (PROJECT_ROOT / "data" / "store").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) < 45e6


def smeared(mask: np.ndarray, names: list[str], stroke: str) -> np.ndarray:
    """A mask with one crude stroke: a filled box around or beside some parts."""
    parts = {"lips": ("upper_lip", "lower_lip"), "nose": ("nose",), "brows": ("left_brow", "right_brow")}
    parts |= {"hair": ("skin",), "eyes": ("left_eye", "right_eye")}
    label = {"lips": "lower_lip", "nose": "nose", "brows": "left_brow", "hair": "hair", "eyes": "skin"}[stroke]
    rows, columns = np.isin(mask, [names.index(part) for part in parts[stroke]]).nonzero()
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    painted = mask.copy()
    if stroke == "hair":
        painted[(top + bottom) // 2 : bottom + 6, right : right + 8] = names.index(label)
    elif stroke == "eyes":
        painted[top:bottom, left:right] = names.index(label)
    else:
        painted[top - 2 : bottom + 2, left - 1 : right + 1] = names.index(label)
    return painted


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize("stroke", ["lips", "nose", "brows", "hair", "eyes"])
def test_picture_follows_a_crude_stroke_or_the_command_says_that_it_did_not(bare_clone, assets_dir, tmp_path, stroke):
    """Judged by the parser of stage maskgan, with which no edit is optimised."""
    shutil.copytree(assets_dir, bare_clone / "outputs" / "assets", dirs_exist_ok=True)
    (bare_clone / "outputs" / "data").mkdir(exist_ok=True)
    save_classes(bare_clone / "outputs" / "data" / "classes.json", CLASSES)

    def editgan(*words: str) -> str:
        command = [
            sys.executable,
            "-c",
            "from editgan.cli.pictures import main; main()",
            *words,
            "--out",
            str(tmp_path),
        ]
        done = subprocess.run(command, cwd=bare_clone, env=environment(bare_clone), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    editgan("sample", "--seed", "2")
    head, mask_path = tmp_path / "seed00002.png", tmp_path / "seed00002_mask.png"
    editgan("segment", str(head))
    names = load_segmentation(bare_clone / "outputs/segmentation/S.safetensors").class_names
    segmented = Image.open(mask_path)
    mask, palette = np.asarray(segmented), np.array(segmented.getpalette()).reshape(-1, 3)[: len(names)]
    wanted = smeared(mask, names, stroke)
    save_mask(mask_path, torch.as_tensor(wanted), palette)
    before = np.asarray(Image.open(head).convert("RGB"))
    said = editgan("edit", str(head), str(mask_path))
    after = np.asarray(Image.open(tmp_path / "seed00002_edited.png").convert("RGB"))
    pictures = torch.as_tensor(np.stack([before, after])).permute(0, 3, 1, 2)
    found = predict(load_module(bare_clone / "outputs/maskgan/parser.safetensors", Parser), pictures).numpy()
    was, reached = ((one == wanted)[wanted != mask].mean() for one in found)
    assert reached > was + 0.2 or "did not take fully" in said, (was, reached, said)


RANGES = {"smiling": 100.0, "segmentation_accuracy": 100.0, "fid": 100.0}  # of metrics that do not lie in 0..1
FEW_HEADS = 0.5  # percent: another processor may round two of 400 heads across the threshold


@pytest.mark.slow
@pytest.mark.assets
def test_three_rows_of_the_committed_table_come_out_again(bare_clone, assets_dir):
    """Made anew from the shipped models, all their figures equal those in git to 1e-4 of their range."""
    shutil.copytree(assets_dir, bare_clone / "outputs" / "assets", dirs_exist_ok=True)
    command = [sys.executable, "-m", "editgan", "data"]
    done = subprocess.run(command, cwd=bare_clone, env=environment(bare_clone), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    params, baseline = load_params(bare_clone / "params.yaml"), load_results(bare_clone / BASELINE / "results.csv")
    rows = Rows(bare_clone / "outputs", params, torch.device("cpu"))
    compared = 0
    for row in baseline:
        if row.method in ("reconstruction", "editgan", "interfacegan") and row.strength is not None and not row.pasted:
            for one in rows.score(row.method, row.strength):
                for column, figure in one.scores.figures.items():
                    near = 1e-4 * RANGES.get(column.metric, 1.0)
                    near = FEW_HEADS if column.metric == "smiling" else near
                    assert figure.value == pytest.approx(baseline[one.row][column].value, abs=near), (one.row, column)
                    compared += 1
    assert compared > 60
