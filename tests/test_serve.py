"""Processes that are ended with all that they have started, and the servers of `make serve`."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from fake_project import wait_for

from editgan.runtime import environment
from flows import processes, serve

# A program that starts a child with a session of its own, and writes down its id.
FORKING = (
    "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    "start_new_session=True); print(child.pid, flush=True); time.sleep(600)"
)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_what_a_program_has_started_is_stopped_with_it(tmp_path):
    process = processes.start(["python", "-c", FORKING], root=tmp_path, stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(process.stdout.readline()))
    processes.stop(process)
    assert process.returncode == -15 and gone(child)
    processes.stop(process)  # nothing is left to do


def test_program_that_ignores_the_signal_is_killed(tmp_path):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    process = processes.start(["python", "-c", code], root=tmp_path, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    processes.stop(process, grace=0.2)
    assert process.returncode == -9


def test_program_ends_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from flows import processes;"
        "processes.start(['python', '-c', 'import time; print(flush=True); time.sleep(600)'], root=Path.cwd());"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(environment.PROJECT_ROOT)]
    parent = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    parent.stdout.readline()
    (program,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    wait_for(lambda: gone(program), 10, "the program is gone")


def test_part_that_ends_takes_the_others_along(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    parts = []

    def start(seconds: int, status: int) -> subprocess.Popen:
        code = f"import sys, time; time.sleep({seconds}); sys.exit({status})"
        parts.append(processes.start(["python", "-c", code], root=tmp_path))
        return parts[-1]

    monkeypatch.setattr(environment, "store_uri", lambda root: "sqlite:///mlflow.db")
    monkeypatch.setattr(serve, "start_mlflow", lambda root, port: (start(600, 0), "http://mlflow"))
    monkeypatch.setattr(serve, "start_prefect", lambda root, port: (start(600, 0), "http://prefect"))
    monkeypatch.setattr(serve, "wait_until_up", lambda *arguments: None)
    monkeypatch.setattr(serve, "start_worker", lambda root, api: start(2, 3))
    with pytest.raises(RuntimeError, match="^worker ended with status 3; everything is stopped$"):
        serve.serve(tmp_path, worker=True)
    assert [process.poll() for process in parts] == [-15, -15, 3]
    assert not environment.servers_file(tmp_path).exists()
    assert "Ctrl-C stops everything" in capsys.readouterr().out


def test_servers_that_the_environment_names_are_used_and_none_started_beside_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    monkeypatch.setenv("EDITGAN_TRACKING_URI", "http://mlflow.example")
    asked = []

    def start_worker(root: Path, api: str) -> subprocess.Popen:
        asked.append(api)
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, "start_worker", start_worker)
    monkeypatch.setattr(processes, "start", lambda *arguments, **options: pytest.fail("started a server"))
    with pytest.raises(KeyboardInterrupt):
        serve.serve(tmp_path, worker=True)
    assert asked == ["http://prefect.example/api"]


def test_server_that_ends_before_it_answers_is_said_with_its_status(tmp_path):
    url = f"http://127.0.0.1:{serve.free_port(20000)}/"
    ends = processes.start(["python", "-c", "import sys, time; time.sleep(1); sys.exit(3)"], root=tmp_path)
    with pytest.raises(RuntimeError, match=f"{url}: the server ended with status 3"):
        serve.wait_until_up(ends, url)


def test_first_free_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve.free_port(port) > port
    assert serve.free_port(port) == port


def test_page_of_prefect_asks_the_port_that_its_server_has(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(processes, "start", lambda command, **options: given.update(options["environment"]))
    assert serve.start_prefect(tmp_path, 4217)[1] == "http://127.0.0.1:4217"
    leases = environment.project_environment(tmp_path)["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"]
    assert leases.endswith("lease_storage.filesystem"), "outlives a restart"
    asked = [sys.executable, "-c", "from prefect.settings import PREFECT_UI_API_URL as url; print(url.value())"]
    told = subprocess.run(asked, env=os.environ | given, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "http://127.0.0.1:4217/api"


def test_runs_are_recorded_by_a_server_that_answers_and_else_in_the_project(tmp_path, monkeypatch):
    for name in environment.TRACKING_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    file = environment.servers_file(tmp_path)
    file.parent.mkdir()
    file.write_text(json.dumps({"mlflow": "http://127.0.0.1:9"}))
    own = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert environment.tracking_uri(tmp_path) == own, "that server is gone"
    monkeypatch.setattr(environment, "answers", lambda url: url == "http://127.0.0.1:9/health")
    assert environment.tracking_uri(tmp_path) == "http://127.0.0.1:9" and environment.store_uri(tmp_path) == own
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    assert environment.tracking_uri(tmp_path) == environment.store_uri(tmp_path) == "http://mlflow.example"
