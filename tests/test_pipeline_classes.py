"""Every stage on the rendered cars at params/ci.yaml size: what a class without faces leaves behind."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from editgan.config import STAGES, read_params
from editgan.runtime.environment import PROJECT_ROOT
from editgan.scoring.table import Column, Row, parse_table

pytestmark = [pytest.mark.slow, pytest.mark.assets]
WORDS = re.compile(r"smil|mouth|\bfaces?\b|\bheads?\b|person|people|photo", re.IGNORECASE)


def tiny_params(name: str) -> dict:
    """params/NAME.yaml at the size of params/ci.yaml."""
    whole = read_params(PROJECT_ROOT / "params" / "ci.yaml")
    for section, values in yaml.safe_load((PROJECT_ROOT / "params" / f"{name}.yaml").read_text()).items():
        sized = ("few_shot", "labelled_images", "kimg", "warmup_kimg", "parser_kimg")
        whole[section] |= {key: value for key, value in values.items() if key not in sized}
    return whole


def run_stages(root: Path, assets: Path, params: dict, edits: Path) -> None:
    """Run every stage but assets in an empty folder, each in a process of its own."""
    root.mkdir()
    for name in ("dvc.yaml", "baseline", "data", "editgan"):
        (root / name).symlink_to(PROJECT_ROOT / name)
    shutil.copy(edits, root / "edits.yaml")
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / "outputs").mkdir()
    shutil.copytree(assets, root / "outputs" / "assets")
    given = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])}
    for stage in STAGES[1:]:
        command = [sys.executable, "-m", "editgan", stage]
        done = subprocess.run(command, cwd=root, env=given, capture_output=True, text=True)
        assert done.returncode == 0, f"{stage}: {done.stdout[-1500:]}{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, assets_dir) -> Path:
    root = tmp_path_factory.mktemp("cars") / "project"
    run_stages(root, assets_dir, tiny_params("cars"), PROJECT_ROOT / "params" / "edits" / "cars.yaml")
    return root / "outputs"


def test_the_table_has_the_rows_of_the_class_and_no_column_of_faces(outputs):
    path = outputs / "benchmark" / "results.csv"
    table = parse_table(path.read_bytes(), str(path))
    methods = {"interfacegan", "interfacegan_conditional", "localediting", "editgan", "editgan_plus", "editgan_plus_3"}
    assert {row.method for row in table} >= methods | {"input", "reconstruction", "truly_changed"}
    assert not {"maskgan", "distillation", "truly_smiling"} & {row.method for row in table}
    columns = {column for figures in table.values() for column in figures}
    assert {Column("changed", judge) for judge in ("judge", "parser")} <= columns
    assert {column.network for column in columns if column.metric == "similarity"} == {"efflite0"}
    truth = table[Row("truly_changed")]
    assert truth[Column("similarity", "efflite0")].value > 0.99, "only what is hidden differs"
    assert table[Row("input")][Column("changed", "parser")].value == 0
    found = json.loads((outputs / "samples" / "metrics.json").read_text())
    assert not any("face" in name or "smil" in name for row in found.values() for name in row)


def test_every_output_and_dependency_of_the_graph_exists(outputs):
    graph = yaml.safe_load((PROJECT_ROOT / "dvc.yaml").read_text())["stages"]
    names = {name if isinstance(name, str) else next(iter(name)) for stage in graph.values() for kind in
             ("deps", "outs", "metrics") for name in stage.get(kind, ())}  # fmt: skip
    vectors = {"${scoring.vector}": "bigger_wheels", "${scoring.plus_vector}": "bigger_wheels_mean"}
    for name in names:
        for variable, value in vectors.items():
            name = name.replace(variable, value)
        assert not name.startswith("outputs/") or (outputs.parent / name).exists(), name


def test_pages_speak_of_the_class_alone(outputs):
    for name in ("benchmark/table.md", "samples/table.md", "judges/quality.md", "report/index.html"):
        text = re.sub(r"<img[^>]*>|<head>|</head>|<pre>.*</pre>", "", (outputs / name).read_text(), flags=re.DOTALL)
        assert not WORDS.findall(text), name
    assert "Benchmark of `wheel_size`" in (outputs / "benchmark" / "table.md").read_text()


def test_the_parser_alone_is_trained_of_the_methods_of_faces(outputs):
    measured = json.loads((outputs / "maskgan" / "metrics.json").read_text())
    assert measured["train_masks"] == 0 and measured["parser_masks"] == 400
    assert "segmentation_miou_val16_photos" in measured
    assert json.loads((outputs / "distillation" / "metrics.json").read_text()) == {"pairs": 0}
