"""What the doctor finds: each fault is made for real, named and repaired, and what is healthy stays as it is."""

import http.server
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from fake_project import environment, make_project
from typer.testing import CliRunner

from editgan.assets.manifest import NETWORKS
from editgan.cli import doctor
from editgan.cli import pictures as cli
from editgan.config import load_params
from editgan.runtime import tracking
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.graph import input_hash, load_graph
from editgan.runtime.locks import at_work, note_beside, note_in
from editgan.runtime.process import exclusive
from editgan.training import save_state
from editgan.weights import save_tensors
from flows.pipeline import sole_pipeline

PLACES = ("EDITGAN_TRACKING_URI", "MLFLOW_TRACKING_URI", "PREFECT_HOME", "EDITGAN_ASSET_CACHE")


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A project whose three stages have run."""
    root = make_project(tmp_path_factory.mktemp("doctor") / "project")
    dvc(root, "repro", "--quiet")
    return root


@pytest.fixture
def root(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "project")


def dvc(root: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, env=environment(root), check=True)


def faults(root: Path) -> list[str]:
    return [finding.what for finding in doctor.examine(root)]


def fixed(root: Path) -> list[str]:
    """Mends what can be and returns what is left."""
    doctor.treat(root, fix=True, say=lambda line: None)
    return faults(root)


def killed(code: str, *arguments: object, cwd: Path = PROJECT_ROOT) -> int:
    """Runs Python code that kills itself with -9; returns the process id it had."""
    environ = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=cwd, env=environ)
    assert process.wait(120) == -9
    return process.pid


def test_healthy_project_is_well_and_the_command_says_so(root, monkeypatch):
    monkeypatch.chdir(root)
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert (done.exit_code, done.output) == (0, "no problems found\n")
    (root / "outputs" / "first" / "out.txt").write_text("fir")
    left = CliRunner().invoke(cli.app, ["doctor", "--fix"])
    assert (
        left.exit_code == 1 and "outputs/first/out.txt" in left.output and "dvc checkout --force first" in left.output
    )
    assert (root / "outputs" / "first" / "out.txt").read_text() == "fir", "results are left to the user"
    monkeypatch.chdir(root.parent)
    assert "run this in the project's folder" in CliRunner().invoke(cli.app, ["doctor"]).output


def test_bare_clone_is_told_what_is_missing(root):
    dvc(root, "push", "--quiet", "first")
    shutil.rmtree(root / "outputs")
    subprocess.run(["git", "add", "data/store"], cwd=root, check=True)
    remedies = {finding.what.partition(":")[0]: finding.remedy for finding in doctor.examine(root)}
    assert list(remedies) == ["first", "second", "third"]
    assert "dvc pull --allow-missing first" in remedies["first"] and "make demo" in remedies["second"]
    (stored,) = (path for path in (root / "data" / "store" / "files").rglob("*") if path.is_file())
    stored.chmod(0o644)
    stored.write_text("damaged")
    assert any(what == f"{stored}: damaged or missing" for what in faults(root))


def test_outputs_are_not_checked_while_another_dvc_command_runs(root):
    code = "import sys, zc.lockfile; lock = zc.lockfile.LockFile('.dvc/tmp/lock'); print('held', flush=True)"
    command = [sys.executable, "-c", f"{code}; sys.stdin.read()"]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        (finding,) = doctor.examine(root)
        note = root / "work" / "first" / "lock.json"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"pid": str(holder.pid)}))
        assert faults(root) == [], "a stage that runs is no fault"
        holder.stdin.close()
    assert "`dvc status --json` failed" in finding.what and "another DVC command" in finding.remedy
    assert faults(root) == []


def test_mlflow_run_of_a_killed_process_is_ended(root):
    code = "import os, sys; from pathlib import Path; from editgan.runtime import tracking;"
    code += "tracking.start_run('second', root=Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    killed(code, root)
    living = tracking.start_run("third", root=root)
    code = code.replace("second", "first")
    killed(code, root)
    (what,) = faults(root)
    assert "RUNNING without a process: first" in what and "third" not in what
    assert fixed(root) == []
    client, experiment = tracking.connect(root)
    states = {run.info.run_name: run.info.status for run in client.search_runs([experiment])}
    assert states == {"first": "KILLED", "second": "KILLED", "third": "RUNNING"}
    living.close()


def test_note_of_a_killed_pipeline_is_left_to_the_next_one(root):
    """It names the flow run that the next pipeline closes."""
    code = "import os, sys; from pathlib import Path; from flows.pipeline import sole_pipeline;"
    code += "held = sole_pipeline(Path(sys.argv[1]), None, 'dead'); held.__enter__(); os.kill(os.getpid(), 9)"
    pid = killed(code, root)
    assert fixed(root) == []
    with sole_pipeline(root, None, "alive") as left_behind:
        assert left_behind["flow_run"] == "dead" and left_behind["pid"] == str(pid)
    with sole_pipeline(root, None, "next") as left_behind:
        assert left_behind == {}, "a clean end leaves nothing"


def test_lock_of_a_killed_stage_hinders_nobody(root):
    code = "import os, sys; from pathlib import Path; from editgan.runtime.process import exclusive;"
    code += "held = exclusive(Path(sys.argv[1])); held.__enter__(); os.kill(os.getpid(), 9)"
    pid = killed(code, root / "work" / "first")
    note = note_beside(root / "work" / "first" / "lock")
    assert note_in(note)["pid"] == str(pid) and not at_work(root, "first")
    assert faults(root) == []
    with exclusive(root / "work" / "first"):
        assert note_in(note)["pid"] == str(os.getpid()) and at_work(root, "first")
    assert not note.exists(), "a clean end leaves nothing"


def test_record_of_servers_loses_those_that_are_gone(root):
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    up = {"prefect": f"http://127.0.0.1:{server.server_port}"}
    path = root / ".cache" / "servers.json"
    path.write_text(json.dumps(up | {"mlflow": "http://127.0.0.1:9"}))
    (what,) = faults(root)
    assert "mlflow http://127.0.0.1:9" in what and "prefect" not in what
    assert fixed(root) == [] and json.loads(path.read_text()) == up
    server.shutdown()
    server.server_close()
    assert fixed(root) == [] and not path.exists()


def test_orphan_is_named_and_left_to_the_user(root):
    """A stage that outlives DVC, which our stages do not: this one has no guard."""
    (root / "stage.py").write_text("import time; print('up', flush=True); time.sleep(600)")
    shell = f"import subprocess, sys; subprocess.run([{sys.executable!r}, 'stage.py', 'first'])"
    parent = subprocess.Popen([sys.executable, "-c", shell], cwd=root, stdout=subprocess.PIPE, start_new_session=True)
    parent.stdout.readline()
    (stage,) = psutil.Process(parent.pid).children()
    assert not [what for what in faults(root) if "runs the stage" in what], "its parent lives"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        assert any(f"process {stage.pid} runs the stage first" in what for what in fixed(root))
    finally:
        stage.kill()
    time.sleep(0.5)
    assert faults(root) == []


def test_damaged_downloads_are_deleted_and_those_given_by_hand_are_named(root):
    archive = next(iter(NETWORKS.values())).archive
    kept, by_hand = root / ".cache" / "assets" / archive.file, root / "data" / "assets" / archive.file
    for path in (kept, by_hand):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"cut off")
    assert len(faults(root)) == 2
    (left,) = fixed(root)
    assert str(by_hand) in left and not kept.exists()


def test_temporary_files_of_killed_writers_are_deleted(root):
    code = "import os, sys; from editgan import weights; os.replace = lambda *paths: os.kill(os.getpid(), 9);"
    code += "weights.write_bytes(sys.argv[1], b'half')"
    for stage in ("first", "second"):
        killed(code, root / "outputs" / stage / "model.safetensors")
    (root / ".cache" / "assets" / ".download-1").mkdir(parents=True)
    with exclusive(root / "work" / "second"):
        assert len(faults(root)) == 2, "that of a stage at work is its own affair"
        assert fixed(root) == []
        assert len(list((root / "outputs" / "second").glob(".*.part"))) == 1
    assert len(faults(root)) == 1 and fixed(root) == []
    assert sorted(path.name for path in (root / "outputs" / "second").iterdir()) == [
        "metrics.json", "out.txt", "run.json"
    ]  # fmt: skip


def test_half_written_output_that_dvc_does_not_know_is_named(root):
    lock = root / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    del content["stages"]["third"]
    lock.write_text(yaml.safe_dump(content))
    path = save_tensors(root / "outputs" / "third" / "model.safetensors", {"a": torch.zeros(100)})
    assert faults(root) == []
    path.write_bytes(path.read_bytes()[:-8])
    assert "third/model.safetensors: damaged" in fixed(root)[0]


@pytest.fixture
def stateful(checkout) -> Path:
    """A checkout with one real stage, `editing`, of which it holds the state that the next run takes up."""
    subprocess.run(["git", "init", "--quiet", checkout], check=True)
    stages = {"editing": {"cmd": "exec python -m editgan editing", "params": ["seed", "editing"], "outs": ["out.txt"]}}
    (checkout / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    params = load_params(checkout / "params.yaml").model_dump(mode="json")
    wanted = checkout / "work" / "editing" / input_hash(load_graph(checkout / "dvc.yaml")["editing"], checkout, params)
    save_state(wanted, {"cur_nimg": 16, "weights": torch.arange(1000.0)})
    save_tensors(wanted / "latents" / "train_00000.safetensors", {"a": torch.zeros(100)})
    return wanted


def test_damaged_state_is_set_aside_and_whole_state_stays(stateful):
    root = stateful.parents[2]
    assert faults(root) == []
    path = stateful / "state.pt"
    whole = bytearray(path.read_bytes())
    for damaged in (whole[: len(whole) // 2], b"", whole.replace(torch.arange(1000.0).numpy().tobytes(), bytes(4000))):
        path.write_bytes(damaged)
        (what,) = faults(root)
        assert f"{path}: damaged" in what
    assert fixed(root) == []
    assert not path.exists() and (stateful / "state.pt.damaged").exists()
    assert (stateful / "latents" / "train_00000.safetensors").exists()


def test_state_that_nothing_takes_up_is_named_and_kept(stateful):
    root = stateful.parents[2]
    other, gone = root / "work" / "editing" / "0123456789abcdef", root / "work" / "painting" / "0123456789abcdef"
    for folder in (other, gone):
        save_state(folder, {"cur_nimg": 16})
    first, second = sorted(fixed(root))
    assert f"{other}: 0.0 MB of state of other parameters" in first and f"{gone}: " in second
    (other / "finished").touch()
    assert len(faults(root)) == 1, "the next run of a stage clears what is finished"
    with exclusive(gone.parent):
        assert faults(root) == []


def test_versions_that_pip_lets_pass_are_named(root, tmp_path, monkeypatch):
    for name, version in (("fastapi", "0.160.0"), ("torchvision", "0.99"), ("some_thing", "2.0+cu130"), ("b", "3")):
        folder = tmp_path / "packages" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\nRequires-Dist: torch==9.9.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    (root / "constraints.txt").write_text("some-thing==2.0\nb==2\nnever-installed==1\n")
    fastapi, torchvision, others = faults(root)
    assert "fastapi 0.160.0: Prefect's server refuses" in fastapi
    assert "torchvision 0.99 is built for torch 9.9.0" in torchvision
    assert others.endswith("b 3 (pinned 2)"), "builds of one version are one version"


def test_gpu_that_torch_cannot_use_is_named(root, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 'GPU 0: Pretended'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{driver.parent}{os.pathsep}{os.environ['PATH']}")
    params = yaml.safe_load((root / "params.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(params | {"runtime": {"device": "auto"}}))
    assert "built without CUDA" in faults(root)[0]
    driver.write_text("#!/bin/sh\nexit 9\n")
    assert faults(root) == []
    (root / "params.yaml").write_text(yaml.safe_dump(params | {"runtime": {"device": "cuda"}}))
    assert any("runtime.device is cuda" in what for what in faults(root))


def test_full_disk_is_named(root, monkeypatch):
    monkeypatch.setattr(doctor, "SPARE_BYTES", 1 << 60)
    assert "GB are free, and a run needs" in faults(root)[0]


def test_unreadable_databases_are_named_and_kept(root):
    for path in (root / "mlflow.db", root / ".cache/prefect/prefect.db"):
        content = bytearray(path.read_bytes())
        path.write_bytes(content[:50] + bytes(200) + content[250 : len(content) // 2])
    left = fixed(root)
    assert len(left) == 2 and "mlflow.db: " in left[0] and "prefect.db: " in left[1]


def test_locked_database_is_told_from_a_damaged_one(root, monkeypatch):
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        (what,) = faults(root)
        assert "locked" in what
        database.rollback()
    database.close()
    assert faults(root) == []


@pytest.mark.parametrize("content", ["[]", '{"nobody": "http://127.0.0.1:9"}', "7"])
def test_record_of_servers_of_another_shape_is_damaged_and_no_traceback(root, content):
    place = root / ".cache" / "servers.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)
    (what,) = faults(root)
    assert f"{place}: damaged" in what and fixed(root) == []


def test_note_of_another_shape_names_nobody(root):
    note = note_beside(root / "work" / "first" / "lock")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text("[]")
    assert not at_work(root, "first") and faults(root) == []


def test_faulty_params_are_named(root):
    before = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text("params: [")
    assert any("params.yaml" in what for what in faults(root))
    (root / "params.yaml").write_text(before)
    assert faults(root) == []
