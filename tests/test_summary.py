"""What a pipeline says at its end, and the metrics of its run in MLflow."""

import json
import re
import shutil

from editgan.report.comparison import HEADLINES
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.graph import content_hash
from flows import stages
from flows.summary import headlines, markdown_table, summary


def test_summary_links_to_the_runs_that_a_server_shows(tmp_path):
    shutil.copy(PROJECT_ROOT / "params.yaml", tmp_path)
    (tmp_path / "outputs" / "first").mkdir(parents=True)
    (tmp_path / "outputs" / "first" / "metrics.json").write_text("{}")
    record = {"run_id": "abc", "seconds": 1.0, "metrics": content_hash(tmp_path / "outputs/first/metrics.json")}
    (tmp_path / "outputs" / "first" / "run.json").write_text(json.dumps(record))
    results = [stages.StageResult("first", "ran", 1.0)]
    page = summary(tmp_path, results, 1.0, {"mlflow": "http://127.0.0.1:5000"}, "sqlite:///x", "7")
    assert "[first](http://127.0.0.1:5000/#/experiments/7/runs/abc)" in page
    assert "In MLflow" not in summary(tmp_path, results, 1.0, {}, "sqlite:///x", "7")
    assert "(https://team/#/experiments/7/runs/abc)" in summary(tmp_path, results, 1.0, {}, "https://team/", "7")


def test_summary_names_a_vector_of_the_run(tmp_path):
    shutil.copy(PROJECT_ROOT / "params.yaml", tmp_path)
    text = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("plus_vector: smile_mean", "plus_vector: bigger_wheels_mean"))
    assert "--edit bigger_wheels_mean=1.5`" in summary(tmp_path, [], 1.0, {}, "sqlite:///x")


def test_table_is_aligned_markdown():
    table = markdown_table([{"stage": "data", "minutes": "4.0"}, {"stage": "generator", "minutes": "42.0"}])
    assert table.splitlines()[1] == "|-----------|-----------|"
    assert len({len(line) for line in table.splitlines()}) == 1


def test_folder_without_results_has_no_headlines(tmp_path):
    assert headlines(tmp_path) == {}


def test_all_headlines_have_names_and_values_for_mlflow():
    found = headlines(PROJECT_ROOT)
    assert len(found) == len(HEADLINES) == 8 and not any(re.search(r"[^\w\-./ ]", name) for name in found)
    assert found["headline/samples KID AlexNet"] > 0 and found["headline/EditGAN refined smiling judge"] > 1
