"""Each failure is made for real; a plain restart then ends with the bytes of a run that nothing disturbed."""

import ctypes
import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml
from fake_project import (
    STAGES,
    copy_databases,
    environment,
    make_project,
    named,
    processes_in,
    run_pipeline,
    start_pipeline,
    wait_for,
)  # fmt: skip

from editgan.cli import doctor
from editgan.runtime import tracking
from editgan.runtime.environment import PROJECT_ROOT, running_servers
from flows import processes, stages

SECONDS = 600  # for what takes a few on a machine with nothing else to do
RUNNING = b'{"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}'  # in a question to Prefect
STEPS = 60  # of the first stage, a tenth of a second each


def project_in(folder: Path) -> Path:
    root = make_project(folder / "project")
    (root / "first.txt").write_text(f"{STEPS}\n")
    return root


def results(root: Path) -> dict[str, bytes]:
    """Everything that the pipeline leaves behind, and DVC's record of it."""
    files = [root / "dvc.lock", *(path for path in (root / "outputs").rglob("*") if path.is_file())]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, bytes]:
    root = project_in(tmp_path_factory.mktemp("unbroken"))
    assert repro(root).wait() == 0
    return results(root)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Iterator[Path]:
    for name in ("EDITGAN_TRACKING_URI", "MLFLOW_TRACKING_URI", "PREFECT_HOME"):  # the doctor looks into the project
        monkeypatch.delenv(name, raising=False)
    # After `processes.start` in another test, what is orphaned here would be this process's, and stay as a zombie.
    ctypes.CDLL(None).prctl(processes.PR_SET_CHILD_SUBREAPER, 0)
    yield project_in(tmp_path)
    for process in processes_in(tmp_path):  # what a failed test has left
        process.kill()


def repro(root: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "dvc", "repro", "--quiet"]
    return subprocess.Popen(command, cwd=root, env=environment(root))


def faults(root: Path) -> str:
    return "\n".join(finding.what for finding in doctor.examine(root))


def steps(root: Path) -> int:
    state = root / "work" / "first" / "state"
    return int(state.read_text()) if state.exists() else 0


def starts(root: Path) -> list[int]:
    return [int(line.split()[1]) for line in (root / "work" / "first" / "log").read_text().splitlines()]


def stage_at_work(root: Path, after: int = 3) -> psutil.Process:
    """The process of the first stage, as soon as it has saved some steps."""
    wait_for(lambda: steps(root) > after, SECONDS, "the stage works")
    return named(root, "stage.py", "first")[0]


@contextmanager
def serving(root: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """`python -m flows.serve`, its output in serve.log, from the time it is up until it is told to end."""
    log = root / "serve.log"
    with log.open("w") as file:
        command = [sys.executable, "-m", "flows.serve", *arguments]
        process = subprocess.Popen(command, cwd=root, env=environment(root), stdout=file, stderr=file)
    try:
        wait_for(lambda: "Ctrl-C" in log.read_text() or process.poll() is not None, SECONDS, "everything is up")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("victim", ["stage", "dvc"])
def test_killed_stage_or_dvc(root, unbroken, victim):
    running = repro(root)
    stage = stage_at_work(root)
    (stage if victim == "stage" else running).kill()
    running.wait()
    wait_for(lambda: not processes_in(root), 20, "nothing is left")
    assert repro(root).wait() == 0
    assert results(root) == unbroken and starts(root)[1] > 3
    assert doctor.treat(root, fix=True) == 0


@pytest.mark.slow
def test_killed_flow_that_the_doctor_sees_first(root, unbroken):
    pipeline = start_pipeline(root)
    stage_at_work(root)
    pipeline.kill()
    pipeline.wait()
    wait_for(lambda: not processes_in(root), 20, "nothing is left")
    found = faults(root)
    assert "RUNNING without a process: pipeline" in found
    doctor.treat(root, fix=True)
    assert "RUNNING" not in faults(root)
    again = run_pipeline(root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "closed the flow run" in again.stdout + again.stderr, "the doctor leaves it to the next pipeline"
    assert results(root) == unbroken and starts(root)[1] > 3
    assert doctor.treat(root, fix=True) == 0


@pytest.mark.slow
def test_killed_prefect_server(root, unbroken, monkeypatch):
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "2")  # 5 take a minute each time that the flow reports something
    pipeline = start_pipeline(root)
    stage_at_work(root)
    (server,) = named(root, "prefect", "server")
    server.kill()
    assert pipeline.wait(SECONDS) == 1, "it could not report"
    assert not processes_in(root)
    assert results(root) == unbroken, "the stages went on"
    again = run_pipeline(root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert results(root) == unbroken and starts(root) == [0]
    assert doctor.treat(root, fix=True) == 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "mlflow", "prefect"])
def test_killed_part_of_make_serve_ends_all_of_it(root, unbroken, victim):
    with serving(root) as served:
        assert set(running_servers(root)) == {"mlflow", "prefect"}
        run_deployment(root)
        words = {"worker": ("prefect", "worker"), "mlflow": ("mlflow", "server"), "prefect": ("prefect", "server")}
        named(root, *words[victim])[0].kill()
        assert served.wait(SECONDS) == 1
    assert f"{victim} ended with status -9; everything is stopped" in (root / "serve.log").read_text()
    wait_for(lambda: not processes_in(root), 20, "flow, stage and the other parts have ended")
    again = run_pipeline(root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert results(root) == unbroken and starts(root)[1] > 3
    assert doctor.treat(root, fix=True) == 0


def run_deployment(root: Path) -> str:
    """Start the deployment `pipeline` and wait for its first stage; returns the address of the API."""
    prefect = [sys.executable, "-m", "prefect", "deployment", "run", "pipeline/pipeline"]
    api = f"{running_servers(root)['prefect']}/api"
    subprocess.run(prefect, cwd=root, env=environment(root) | {"PREFECT_API_URL": api}, check=True, capture_output=True)
    stage_at_work(root)
    return api


def closed(root: Path) -> bool:
    """Whether the one run in MLflow is KILLED, and neither its flow nor its lock is left."""
    client, experiment = tracking.connect(root)
    (parent,) = client.search_runs([experiment])
    with sqlite3.connect(root / ".cache" / "prefect" / "prefect.db") as database:
        going_on = database.execute("SELECT id FROM flow_run WHERE state_type IN ('RUNNING', 'CANCELLING')").fetchall()
    left = [*doctor.mlflow_runs(root), *going_on, *root.glob("work/*.lock.json")]
    return parent.info.status == "KILLED" and not left


@pytest.mark.slow
def test_ended_supervisor_closes_what_a_deployment_runs(root, unbroken):
    with serving(root) as served:
        run_deployment(root)
        served.terminate()
        assert served.wait(SECONDS) == 0
    assert closed(root) and not processes_in(root)
    with sqlite3.connect(root / ".cache" / "prefect" / "prefect.db") as database:
        assert database.execute("SELECT SUM(active_slots) FROM concurrency_limit_v2").fetchone() == (0,)
    again = run_pipeline(root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert results(root) == unbroken


@pytest.mark.slow
def test_run_that_is_cancelled_on_the_page_is_closed(root, unbroken):
    with serving(root):
        api = run_deployment(root)
        asked = urllib.request.Request(f"{api}/flow_runs/filter", RUNNING, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked) as answer:
            (run,) = json.load(answer)
        state = json.dumps({"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}).encode()
        address = f"{api}/flow_runs/{run['id']}/set_state"
        urllib.request.urlopen(urllib.request.Request(address, state, {"Content-Type": "application/json"})).close()
        wait_for(lambda: not named(root, "prefect.engine"), SECONDS, "its flow ends")
        wait_for(lambda: closed(root), SECONDS, "its runs are closed")
    assert not processes_in(root)


@pytest.mark.slow
def test_killed_supervisor_leaves_no_servers_and_a_flow_that_can_be_stopped(root, unbroken):
    parts = (("mlflow", "server"), ("prefect", "server"), ("prefect", "worker"))
    with serving(root) as served:
        run_deployment(root)
        served.kill()
        served.wait()
        # They end by themselves, which takes 40 seconds on an idle machine.
        wait_for(lambda: not any(named(root, *words) for words in parts), 240, "neither servers nor worker")
        for flow in named(root, "prefect.engine"):
            processes.stop(flow)
        wait_for(lambda: not processes_in(root), 40, "neither flow nor stage")
    assert "servers that do not answer" in faults(root)
    again = run_pipeline(root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert results(root) == unbroken and starts(root)[1] > 3
    assert doctor.treat(root, fix=True) == 0


@pytest.mark.slow
def test_locked_mlflow_database(tmp_path, monkeypatch, capsys):
    """What was recorded before stays; then the run goes on with local files alone, and still ends as it should."""
    copy_databases(tmp_path)
    monkeypatch.setenv("EDITGAN_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = tracking.start_run("data", root=tmp_path)
    run.log_metrics({"loss": 9.0}, step=0)
    run.flush()
    locked, free = threading.Event(), threading.Event()

    def hold() -> None:
        database = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
        database.execute("BEGIN EXCLUSIVE")
        locked.set()
        free.wait()
        database.close()

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait()
    for step in (1, 2, 3):
        run.log_metrics({"loss": float(step)}, step=step)
        run.flush()
    assert capsys.readouterr().out.count("MLflow does not answer") == 1
    other = tracking.start_run("judges", root=tmp_path)  # begun meanwhile: local files only
    free.set()
    thread.join()
    run.close()
    other.close()
    client, _ = tracking.connect(tmp_path)
    assert [point.value for point in client.get_metric_history(run.run_id, "loss")] == [9]
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert other.run_id is None


# A stage that trains a few numbers and saves its complete state after each step. Step 3 meets the failure, if any.
TRAINER = f"""
import os, resource, sys
from types import SimpleNamespace
sys.path.insert(0, {str(PROJECT_ROOT)!r})
import torch
import editgan.runtime.stage
from editgan import __main__ as entry, weights
from editgan.runtime import tracking
from editgan.training import load_state, save_state, seed_everything
from editgan.weights import save_tensors

def run(context):
    state = load_state(context.work) or {{"step": 0, "weights": torch.zeros(1000)}}
    print("from", state["step"], flush=True)
    for step in range(state["step"], 6):
        if step == 3 and os.environ.get("FAILURE") == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        if step == 3 and os.environ.get("FAILURE") == "killed":
            os.replace = lambda *paths: os.kill(os.getpid(), 9)
        seed_everything(0, step)
        state = {{"step": step + 1, "weights": state["weights"] + torch.randn(1000)}}
        save_state(context.work, state)
    save_tensors(context.out / "weights.safetensors", {{"weights": state["weights"]}})

tracking.start_run = lambda name, **options: tracking.offline_run(name)
editgan.runtime.stage.stage_module = lambda name: SimpleNamespace(run=run)
sys.exit(entry.main(["editing"]))
"""


@pytest.fixture
def trainer(checkout) -> Path:
    stages = {"editing": {"cmd": "exec python -m editgan editing", "params": ["seed"], "outs": ["outputs/editing/w"]}}
    (checkout / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    subprocess.run(["git", "init", "--quiet"], cwd=checkout, check=True)
    return checkout


def train(root: Path, failure: str = "") -> subprocess.CompletedProcess:
    environ = os.environ | {"FAILURE": failure}
    return subprocess.run([sys.executable, "-c", TRAINER], cwd=root, env=environ, capture_output=True, text=True)


def trained(root: Path) -> bytes:
    return (root / "outputs" / "editing" / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("failure", ["full", "killed"])
def test_checkpoint_that_the_disk_has_no_room_for_or_that_is_cut_off_by_a_kill(trainer, failure):
    broken = train(trainer, failure)
    if failure == "full":
        assert broken.returncode == 1
        assert "limit on the size of a file" in broken.stderr and "run again, it will resume" in broken.stderr
    else:
        assert broken.returncode == -9
    (state,) = (trainer / "work" / "editing").glob("*/state.pt")
    assert len(list(state.parent.glob(".*.part"))) == (failure == "killed")
    doctor.treat(trainer, fix=True)
    assert not list(state.parent.glob(".*.part"))
    again = train(trainer)
    assert again.returncode == 0 and again.stdout.startswith("from 3"), again.stderr
    resumed = trained(trainer)
    (state.parent / "finished").unlink()
    state.unlink()
    assert train(trainer).stdout.startswith("from 0") and trained(trainer) == resumed


def test_corrupt_state(trainer):
    train(trainer, "killed")
    (state,) = (trainer / "work" / "editing").glob("*/state.pt")
    state.write_bytes(state.read_bytes()[:-100])
    refused = train(trainer)
    assert refused.returncode == 1 and f"{state}: damaged training state" in refused.stderr
    assert "editgan doctor --fix" in refused.stderr
    assert doctor.treat(trainer, fix=True) == 0
    again = train(trainer)
    assert again.returncode == 0 and again.stdout.startswith("from 0")
    made = trained(trainer)
    (state.parent / "finished").unlink()
    state.unlink()
    assert train(trainer).returncode == 0 and trained(trainer) == made


@pytest.mark.slow
def test_two_pipelines_started_at_once(root, unbroken):
    both = [start_pipeline(root), start_pipeline(root)]
    statuses = sorted(process.wait(SECONDS) for process in both)
    said = (root / "pipeline.log").read_text()
    assert statuses == [0, 1], said
    assert said.count("another pipeline runs in this checkout") >= 1 and starts(root) == [0]
    assert results(root) == unbroken and doctor.treat(root, fix=True) == 0


@pytest.mark.slow
def test_stage_that_hangs(root, unbroken, monkeypatch):
    """Stopped (SIGSTOP) it neither works nor takes notice of SIGTERM."""
    monkeypatch.setattr(processes, "stop", functools.partial(processes.stop, grace=2))
    hang = threading.Thread(target=lambda: stage_at_work(root).send_signal(signal.SIGSTOP))
    hang.start()
    with pytest.raises(stages.TimedOut, match="first: not finished after its limit"):
        stages.reproduce("first", root, limit_seconds=30, say=lambda line: None)
    hang.join()
    assert not processes_in(root)
    for stage in STAGES:
        assert stages.reproduce(stage, root, say=lambda line: None).outcome == "ran"
    assert results(root) == unbroken and starts(root)[1] > 3


@pytest.mark.slow
def test_stage_that_fails_twice_and_then_works(root, unbroken):
    pipeline = start_pipeline(root)
    for attempt in (1, 2):
        stage_at_work(root, after=4 * attempt).kill()
        wait_for(lambda attempt=attempt: len(starts(root)) > attempt, SECONDS, "another attempt")
    assert pipeline.wait(SECONDS) == 0, (root / "pipeline.log").read_text()
    first, second, third = starts(root)
    assert first == 0 < second < third
    assert results(root) == unbroken and doctor.treat(root, fix=True) == 0
