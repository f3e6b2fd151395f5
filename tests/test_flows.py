"""The flow around DVC: order, skipping, failing, checkouts, and what it says at its end."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_project import STAGES, environment, make_project, processes_in, run_pipeline, wait_for

from editgan.errors import UserError
from editgan.runtime.environment import HEALTH, answers, servers_file
from editgan.runtime.locks import note_beside
from editgan.scoring.scores import save_heads
from editgan.scoring.table import Column, Figure, Row, metrics_of, table_csv
from editgan.weights import write_bytes, write_json
from flows import stages
from flows.checkout import prepare_checkout
from flows.pipeline import checkout_name, lock_of, main, sole_pipeline


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Iterator[tuple[Path, dict[str, str], subprocess.Popen]]:
    """A project with the servers of `make ui`: its folder, their addresses, their process."""
    root = make_project(tmp_path_factory.mktemp("flows") / "project")
    write_json(root / "outputs" / "segmentation" / "metrics.json", {"miou_test16": 0.75})
    record, output = root / ".cache" / "servers.json", root / "ui.log"
    with output.open("w") as log:
        command = [sys.executable, "-m", "flows.serve", "--pages"]
        process = subprocess.Popen(command, cwd=root, env=environment(root), stdout=log, stderr=log)
    try:
        wait_for(lambda: record.exists() or process.poll() is not None, 240, "servers")
        assert record.exists(), output.read_text()
        yield root, json.loads(record.read_text()), process
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def project(pages) -> Path:
    """A project whose pipeline has run once."""
    root, addresses, _ = pages
    first = run_pipeline(root)
    said = first.stdout + first.stderr
    assert first.returncode == 0, said
    assert [outcome(first.stdout, stage) for stage in ("first", "second", "third")] == ["ran"] * 3
    assert addresses["prefect"] in said, "the flow uses the server that runs"
    assert addresses["mlflow"] in first.stdout, "the closing page names its address"
    return root


def outcome(text: str, stage: str) -> str:
    """What the closing page says of a stage."""
    if re.search(rf"^Skipped, nothing changed: .*\b{stage}\b", text, re.MULTILINE):
        return "skipped"
    return re.search(rf"^\| {stage} +\| (\w+)", text, re.MULTILINE)[1]


def git_status(root: Path) -> str:
    return subprocess.run(["git", "status", "--short"], cwd=root, capture_output=True, text=True, check=True).stdout


def test_second_run_skips_every_stage_and_says_so(project):
    again = run_pipeline(project)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [outcome(again.stdout, stage) for stage in ("first", "second", "third")] == ["skipped"] * 3
    assert "run-of-second" in again.stdout + again.stderr, "a skipped stage names the run that made its output"
    assert not any((project.parent / "home").iterdir()), "nothing is written outside of the project"


def test_dry_run_says_what_would_run_and_runs_nothing(project):
    assert run_pipeline(project, "--dry").stdout == "nothing would run: nothing has changed\n"
    before = (project / "work" / "second" / "log").read_bytes(), git_status(project)
    (project / "second.txt").write_text("5\n")
    said = run_pipeline(project, "--dry")
    forced = run_pipeline(project, "--dry", "--stages", "first", "third", "--force", "first")
    (project / "second.txt").write_text("3\n")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[1:] == [
        "second              0.1  changed deps: second.txt modified",
        "third               0.1  follows second",
        "at most             0.2  by the durations of the last runs; ?: unknown",
    ]
    assert forced.stdout.splitlines()[1:3] == [
        "first               0.1  forced",
        "third               0.1  follows first",
    ]
    assert ((project / "work" / "second" / "log").read_bytes(), git_status(project)) == before
    assert "does not exist yet" in run_pipeline(project, "--dry", "--name", "new").stdout
    assert not (project / "runs" / "new").exists()
    with sole_pipeline(project, None, "a"):
        refused = run_pipeline(project, "--dry")
    assert refused.returncode == 1 and "another pipeline runs" in refused.stderr


def test_changed_stage_reruns_it_and_what_follows(project):
    (project / "second.txt").write_text("4\n")
    again = run_pipeline(project)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [outcome(again.stdout, stage) for stage in ("first", "second", "third")] == ["skipped", "ran", "ran"]
    (project / "second.txt").write_text("3\n")
    back = run_pipeline(project, "--stages", "first", "second", "--force", "first")
    assert [outcome(back.stdout, stage) for stage in ("first", "second")] == ["ran", "restored"]
    assert "| third" not in back.stdout


def test_record_has_one_parent_run_that_points_at_the_stages(project):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("editgan")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert runs[0].data.tags["stage.first.run_id"] == "run-of-first"
    assert runs[0].data.tags["stage.first.outcome"] == "ran"
    assert runs[0].data.metrics == {"headline/segmentation mIoU": 0.75}
    assert "summary.md" in [file.path for file in client.list_artifacts(runs[0].info.run_id)]


def test_other_params_run_in_a_checkout_of_their_own(project):
    before = (project / "dvc.lock").read_bytes(), git_status(project)
    other = run_pipeline(project, "--params", "params/other.yaml", "--stages", "first")
    assert other.returncode == 0, other.stdout + other.stderr
    checkout = project / "runs" / "other"
    assert "seed: 1" in (checkout / "params.yaml").read_text()
    assert "seed: 1" in (checkout / "dvc.lock").read_text()
    assert ((project / "dvc.lock").read_bytes(), git_status(project)) == before
    assert not (checkout / "mlflow.db").exists(), "one record for all checkouts"
    assert not (checkout / ".dvc" / "cache").exists(), "one DVC cache for all checkouts"
    note = note_beside(lock_of(project, "other"))
    note.write_text('{"flow_run": "of a killed pipeline"}')
    for options in ((), ("--set", "seed=2")):
        planned = run_pipeline(project, "--params", "params/other.yaml", "--stages", "first", "--dry", *options)
        assert ("changed deps: params.yaml seed" in planned.stdout) == bool(options), planned.stdout
    assert note.exists(), "the next pipeline closes its flow run"
    note.unlink()


def test_run_from_scratch_takes_nothing_over_and_can_be_gone_on_with(project):
    before = (project / "dvc.lock").read_bytes(), git_status(project)
    for expected in ("ran", "skipped"):
        again = run_pipeline(project, "--scratch", "--stages", "first")
        assert again.returncode == 0, again.stdout + again.stderr
        assert outcome(again.stdout, "first") == expected
    checkout = project / "runs" / "scratch"
    assert (checkout / ".dvc" / "cache").exists() and "second" not in (checkout / "dvc.lock").read_text()
    other = run_pipeline(project, "--name", "scratch", "--stages", "first")
    assert other.returncode == 1 and "was created with --scratch, but this run is without it" in other.stderr
    assert ((project / "dvc.lock").read_bytes(), git_status(project)) == before


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--params", "params/none.yaml"), "params/none.yaml: no such params file"),
        (("--limit-hours", "0"), "--limit-hours 0: the limit must be positive"),
        (("--set", "seed=1"), "give its name with --name"),
        (("--name", "other", "--set", "seed"), "--set seed: write KEY=VALUE"),
        (("--against-baseline", "--stages", "data"), "add it to --stages"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_begins(arguments, fault, capsys, monkeypatch):
    monkeypatch.setattr("flows.serve.prefect_api", lambda root: pytest.fail("a server was started"))
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert fault in said and len(said.splitlines()) == 1


def test_checkout_refuses_what_it_did_not_make(tmp_path):
    project = make_project(tmp_path / "project")
    (project / "runs" / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="is not a checkout"):
        prepare_checkout(project, project / "runs" / "mine", Path("params.yaml"))
    with pytest.raises(UserError, match="no such params file"):
        prepare_checkout(project, project / "runs" / "new", Path("params/none.yaml"))


def test_wrong_names_and_files_are_said_at_once(project):
    unknown = run_pipeline(project, "--stages", "fourth")
    assert unknown.returncode == 1
    assert "unknown stage 'fourth'; the stages are first, second, third" in unknown.stderr
    missing = run_pipeline(project, "--params", "params/none.yaml")
    assert missing.returncode == 1 and "none.yaml: no such params file" in missing.stderr


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "-x", "../../etc"])
def test_checkouts_have_plain_names(name):
    with pytest.raises(UserError, match="letters, digits"):
        checkout_name("params.yaml", name)


def test_a_params_file_names_its_checkout():
    assert checkout_name("params.yaml", None) is checkout_name("./params.yaml", None) is None
    with pytest.raises(UserError, match="letters, digits"):
        checkout_name("params/my run.yaml", None)
    assert checkout_name("params/ci.yaml", None) == "ci" and checkout_name("params.yaml", "mine.1") == "mine.1"


@pytest.mark.parametrize("name", [None, "mine"])
def test_second_pipeline_in_the_same_checkout_is_refused(tmp_path, name):
    with (
        sole_pipeline(tmp_path, name, "a"),
        pytest.raises(UserError, match=rf"process {os.getpid()}, since \d.*--name"),
        sole_pipeline(tmp_path, name, "b"),
    ):
        pass
    with sole_pipeline(tmp_path, name, "c") as left_behind:
        assert left_behind == {}
    with sole_pipeline(tmp_path, name, "d"), sole_pipeline(tmp_path, "another", "e"):
        pass


def test_bare_clone_fetches_what_the_store_has_and_makes_the_rest(tmp_path):
    root = make_project(tmp_path / "project")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "repro", "--quiet"], cwd=root, env=environment(root), check=True)
    subprocess.run([*dvc, "push", "--quiet", "first", "third"], cwd=root, env=environment(root), check=True)
    for path in root.glob("outputs/*/*"):
        if path.name != "metrics.json":  # which git keeps
            path.unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    assert stages.fetch_missing(root, say=lambda line: None) == ["first", "third"]
    results = {stage: stages.reproduce(stage, root, say=lambda line: None).outcome for stage in STAGES}
    assert results == {"first": "skipped", "second": "ran", "third": "skipped"}


def test_dvc_shows_metrics_and_tries_a_value_without_touching_the_working_tree(tmp_path):
    root = make_project(tmp_path / "project")

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    dvc = (sys.executable, "-m", "dvc")
    run(*dvc, "repro", "--quiet")
    run("git", "add", "--all")
    run("git", "-c", "user.name=test", "-c", "user.email=test", "commit", "--quiet", "-m", "results")
    assert json.loads(run(*dvc, "metrics", "show", "--json"))[""]["data"]["outputs/third/metrics.json"]["data"] == {
        "steps": 3, "seed": 0
    }  # fmt: skip
    run(*dvc, "exp", "run", "--temp", "--name", "tried", "-S", "seed=5", "--quiet")
    assert git_status(root) == "" and "seed: 0" in (root / "params.yaml").read_text()
    changed = json.loads(run(*dvc, "metrics", "diff", "HEAD", "tried", "--json"))
    assert changed["outputs/third/metrics.json"]["seed"] == {"old": 0, "new": 5, "diff": 5}


def test_dvc_alone_leaves_the_lock_that_the_flow_leaves_and_tries_values_before_it_is_committed(tmp_path):
    alone, through_flow = (make_project(tmp_path / name / "project") for name in ("alone", "flow"))
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "repro", "--quiet"], cwd=alone, env=environment(alone), check=True)
    for stage in STAGES:
        assert stages.reproduce(stage, through_flow, say=lambda line: None).outcome == "ran"
    lock = (alone / "dvc.lock").read_bytes()
    assert lock == (through_flow / "dvc.lock").read_bytes()
    trial = [*dvc, "exp", "run", "--temp", "--name", "tried", "-S", "seed=5", "--quiet"]
    done = subprocess.run(trial, cwd=alone, env=environment(alone), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (alone / "dvc.lock").read_bytes() == lock and "seed: 0" in (alone / "params.yaml").read_text()


@pytest.fixture
def benchmarked(project) -> Iterator[Path]:
    """The project with a stage that leaves the figures in planted/ as a benchmark does, and one night accepted."""
    graph = (project / "dvc.yaml").read_text()
    plant(project / "planted")
    shutil.copytree(project / "planted", project / "baseline" / "benchmark")
    (project / "dvc.yaml").write_text(graph + BENCHMARK)
    yield project
    (project / "dvc.yaml").write_text(graph)
    shutil.rmtree(project / "baseline" / "benchmark")
    shutil.rmtree(project / "planted")


BENCHMARK = """  benchmark:
    cmd: mkdir -p outputs/benchmark && cp planted/* outputs/benchmark && echo '{}' > outputs/benchmark/run.json
    deps: [planted]
    params: [seed]
    outs: [outputs/benchmark/heads.safetensors, outputs/benchmark/results.csv]
    metrics:
    - outputs/benchmark/metrics.json:
        cache: false
"""


def plant(folder: Path, fewer: int = 0, kid: float = 0.03) -> None:
    """Figures of 400 heads, of whom 280 smile, less some; written as stage benchmark does."""
    row, smiling = Row("editgan_plus", 1.5), Column("smiling", "judge")
    said = 100.0 * (torch.arange(400) < 280 - fewer)
    table = {row: {smiling: Figure(400, float(said.mean())), Column("kid", "efflite0"): Figure(400, kid)}}
    write_json(folder / "metrics.json", metrics_of(table))
    write_bytes(folder / "results.csv", table_csv(table))
    save_heads(folder / "heads.safetensors", {(row, smiling): said}, {"data": {}})


def regression_artifact(address: str) -> str:
    """The newest Markdown artifact with this key, from Prefect's own interface."""
    body = {"artifacts": {"key": {"any_": ["regression"]}}, "sort": "CREATED_DESC", "limit": 1}
    request = urllib.request.Request(f"{address}/api/artifacts/filter", json.dumps(body).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())[0]["data"]


def regression_tag(root: Path) -> tuple[str, str]:
    """Of the newest pipeline run: the tag, and how the run ended."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("editgan")
    newest, *_ = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    return newest.data.tags["regression"], newest.info.status


def test_night_fails_where_the_benchmark_is_worse_than_the_accepted_one(pages, benchmarked):
    night = ("--name", "nightly", "--stages", "benchmark", "--force", "benchmark", "--against-baseline")
    equal = run_pipeline(benchmarked, *night)
    assert equal.returncode == 0, equal.stdout + equal.stderr
    assert regression_tag(benchmarked) == ("none", "FINISHED")
    assert regression_artifact(pages[1]["prefect"]).startswith("nothing is worse")

    plant(benchmarked / "planted", fewer=40, kid=0.04)
    worse = run_pipeline(benchmarked, *night)
    assert worse.returncode == 1, worse.stdout + worse.stderr
    said = r"smiling judge of editgan_plus -10 \[-\d+\.?\d*, -\d+\.?\d*\], tolerated 4"
    message = next(line for line in worse.stderr.splitlines() if line.startswith("the benchmark is worse"))
    assert re.search(said, message) and "kid efflite0 of editgan_plus +0.01, tolerated 0.003" in message
    tag, status = regression_tag(benchmarked)
    assert re.search(said, tag) and status == "FAILED"
    assert re.search(r"\| editgan_plus +\| smiling judge +\| more +\|", regression_artifact(pages[1]["prefect"]))
    flow_run = re.search(r"Flow run '[\w-]+' - Finished in state Failed", worse.stdout + worse.stderr)
    assert flow_run, "the flow run itself fails"


def test_runs_are_recorded_through_the_server_and_kept_in_the_project(pages, project):
    root, addresses, _ = pages
    ask = "import json, sys; from editgan.runtime import tracking; from pathlib import Path; "
    ask += "client, number = tracking.connect(Path.cwd()); "
    ask += "print(json.dumps([client.tracking_uri, client.get_experiment(number).artifact_location]))"
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=root, env=environment(root), capture_output=True, text=True, check=True
    )
    uri, artifacts = json.loads(done.stdout)
    assert uri == addresses["mlflow"] and artifacts.startswith((root / "mlartifacts").as_uri())
    kept = list((root / "mlartifacts").rglob("summary.md"))
    assert kept and all("# Stages" in path.read_text() for path in kept)


def test_second_server_is_refused_with_the_first_ones_process(pages):
    root, _, process = pages
    second = subprocess.run(
        [sys.executable, "-m", "flows.serve"], cwd=root, env=environment(root), capture_output=True, text=True
    )
    assert second.returncode == 1 and "Traceback" not in second.stderr
    assert f"run already (process {process.pid}, since " in second.stderr
    assert servers_file(root).exists(), "the record of the first is left alone"


def test_pages_stop_together(pages, project):
    root, addresses, process = pages
    for name, url in addresses.items():
        assert answers(f"{url}{HEALTH[name]}")
    process.terminate()
    assert process.wait(60) == 0
    assert not servers_file(root).exists()
    assert not processes_in(root)
