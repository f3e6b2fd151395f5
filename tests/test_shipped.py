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

from editgan.benchmark import areas
from editgan.benchmark.areas import strangers
from editgan.benchmark.stage import load_rows
from editgan.benchmark.titles import IDENTITY
from editgan.config import load_params
from editgan.data.archive import save_classes, write_archive
from editgan.data.heads.paint import CLASSES
from editgan.data.rendering import render_one, rendered_labels, rendered_recipe
from editgan.images import save_mask
from editgan.methods.maskgan.losses import Parser, predict
from editgan.methods.smile import INPUT
from editgan.metrics import RESAMPLES, bootstrap_interval
from editgan.report.nightly import BASELINE, load_results
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.graph import load_graph
from editgan.scoring.rows import Rows
from editgan.scoring.scores import load_heads
from editgan.scoring.table import Column, Row
from editgan.segmentation.ensemble import load_segmentation
from editgan.weights import load_module, load_tensors, save_tensors, write_json
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
    assert 0 < sum(path.stat().st_size for path in files) < 50e6


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
    assert reached > was + 0.2 or "in part" in said or "failed" in said, (was, reached, said)


RANGES = {"smiling": 100.0, "segmentation_accuracy": 100.0, "fid": 100.0, "area": 100.0}  # others lie in 0..1
FEW_HEADS = 0.5  # percent: another processor may round two of 400 heads across the threshold
SOME = 4  # heads that the fast test makes again


def close_to(value: float, column: Column):
    return pytest.approx(value, abs=1e-4 * RANGES.get(column.metric, 1.0))


def test_figures_of_the_committed_table_follow_from_the_values_of_each_head(bare_clone, monkeypatch):
    """Means, intervals, relative identities and areas, to 1e-4 of their range."""
    params, folder = load_params(bare_clone / "params.yaml"), bare_clone / BASELINE
    table, (heads, _) = load_results(folder / "results.csv"), load_heads(folder / "heads.safetensors")
    followed = set()
    for (row, column), values in heads.items():
        figure = table[row][column]
        low, high = bootstrap_interval(values, resamples=RESAMPLES, seed=params.seed)
        found = (float(values.double().mean()), low, high)
        for value, written in zip(found, (figure.value, figure.low, figure.high), strict=True):
            assert value == close_to(written, column), (row, column)
        followed.add((row, column))
    apart = strangers(table[Row(INPUT)])
    for row, figures in table.items():
        for network, stranger in apart.items():
            column = Column("identity_relative", network)
            if column in figures:
                relative = (figures[Column("identity", network)].value - stranger) / (1 - stranger)
                assert relative == close_to(figures[column].value, column), row
                followed.add((row, column))
    monkeypatch.setattr(areas, "RESAMPLES", 1)  # the areas themselves, without their intervals
    scored = bare_clone / "outputs" / "scoring" / "heads.safetensors"
    for row, by_judge in areas.sweep_areas(scored, stranger=apart[IDENTITY.network], seed=params.seed).items():
        for judge, values in by_judge.items():
            column = Column("area", judge)
            assert float(values[0]) == close_to(table[row][column].value, column), (row, judge)
            followed.add((row, column))
    left = {column.metric for row in table for column in table[row] if (row, column) not in followed}
    of_the_whole_set = {"fid", "kid", "mouth_iou", "different_people"}
    assert left == of_the_whole_set | {"embedding_lpips", "embedding_l2", "embedding_identity"}


@pytest.fixture
def some_heads(bare_clone, assets_dir, tmp_path) -> Path:
    """A folder of outputs with the shipped models, and the first test heads alone, rendered again."""
    outputs, params = tmp_path / "outputs", load_params(bare_clone / "params.yaml")
    (outputs / "data").mkdir(parents=True)
    for stage in SHIPPED:
        if stage not in ("encoder", "scoring"):
            (outputs / stage).symlink_to(bare_clone / "outputs" / stage)
    (outputs / "assets").symlink_to(assets_dir)
    save_classes(outputs / "data" / "classes.json", CLASSES)
    settings = dict(seed=params.seed, few_shot=params.data.few_shot, resolution=params.resolution)
    for split in ("test", "test_smiling", "reference"):
        images, masks, records = zip(*(render_one(k, split=split, **settings) for k in range(SOME)), strict=True)
        attributes = [record["attributes"] for record in records]
        write_archive(outputs / "data" / f"{split}.zip", images, masks, attributes)
    for name in ("encoder/latents", "scoring/refined"):
        tensors, _ = load_tensors(bare_clone / "outputs" / f"{name}.safetensors")
        save_tensors(outputs / f"{name}.safetensors", {key: tensor[:SOME] for key, tensor in tensors.items()})
    return outputs


@pytest.mark.assets
def test_first_heads_of_every_row_of_the_committed_table_come_out_again(bare_clone, some_heads):
    """Edited by every method and judged anew, their values equal those in git to 1e-4 of the metric's range."""
    committed, _ = load_heads(bare_clone / BASELINE / "heads.safetensors")
    jobs = dict.fromkeys((row.method, row.strength) for row, _ in committed)
    rows = load_rows(some_heads, load_params(bare_clone / "params.yaml"), torch.device("cpu"))
    made, crossed = {}, 0
    for job in jobs:
        for one in rows.score(*job):
            made |= {(one.row, column): values for column, values in one.scores.heads.items()}
    assert made.keys() == committed.keys()
    for (row, column), values in made.items():
        difference = (values - committed[row, column][:SOME]).abs()
        if column.metric == "smiling":
            crossed += int((difference > 0).sum())
        else:
            assert difference.max() < 1e-4 * RANGES.get(column.metric, 1.0), (row, column)
    assert crossed <= 2, "another processor may round a head across the threshold"


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
                    written = baseline[one.row][column].value
                    near = close_to(written, column)
                    near = pytest.approx(written, abs=FEW_HEADS) if column.metric == "smiling" else near
                    assert figure.value == near, (one.row, column)
                    compared += 1
    assert compared > 60
