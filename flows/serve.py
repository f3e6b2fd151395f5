"""`python -m flows.serve`: Prefect's server, MLflow's server and a worker on this machine, until Ctrl-C.

The worker runs the deployments of prefect.yaml when they are due. If one of the three ends, all do. A server that the
environment names (PREFECT_API_URL, MLFLOW_TRACKING_URI) is used, and none started beside it.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import psutil
import typer
from filelock import FileLock

from editgan.runtime.environment import (
    HEALTH,
    PROJECT_ROOT,
    answers,
    artifact_folder,
    home_project,
    running_servers,
    servers_file,
    store_uri,
)
from editgan.runtime.locks import held
from flows import processes
from flows.command import run

POOL = "local"
ENGINE = "prefect.engine"  # in the command line of a flow that a worker runs
PREFECT = ("python", "-m", "prefect", "--no-prompt")
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
START_SECONDS = 180.0  # a loaded machine and a first database migration; normally 5 to 15
STOP_SECONDS = 40.0  # for each part; a flow is given half of it to stop its stage


def serve(root: Path, worker: bool) -> None:
    """Start everything and wait until a KeyboardInterrupt or until a part ends; then stop everything.

    Raises RuntimeError: a part did not come up, or it has ended; the reason is among the messages above.
    """
    api, store = os.environ.get("PREFECT_API_URL"), store_uri(root)
    parts: dict[str, subprocess.Popen] = {}
    own: dict[str, str] = {}
    try:
        # One project of a user at a time: a port that is free when it is chosen is taken only seconds later.
        with FileLock(Path(tempfile.gettempdir()) / f"editgan-ports-{os.getuid()}.lock"):
            if not store.startswith("http"):
                parts["mlflow"], own["mlflow"] = start_mlflow(root, free_port(5000))
            if not api:
                parts["prefect"], own["prefect"] = start_prefect(root, free_port(4200))
            if "mlflow" in parts:
                wait_until_up(parts["mlflow"], f"{own['mlflow']}{HEALTH['mlflow']}")
        api = api or f"{own['prefect']}/api"
        servers_file(root).parent.mkdir(parents=True, exist_ok=True)
        servers_file(root).write_text(json.dumps(own))
        if worker:
            parts["worker"] = start_worker(root, api)
        print(f"MLflow   {own.get('mlflow', store)}\nPrefect  {own.get('prefect', api)}")
        due = "The deployments of prefect.yaml run when they are due. " if worker else ""
        print(f"{due}Ctrl-C stops everything.", flush=True)
        while all(process.poll() is None for process in parts.values()):
            time.sleep(0.5)
        ended = {name: part.returncode for name, part in parts.items() if part.poll() is not None}
        said = ", ".join(f"{name} ended with status {status}" for name, status in ended.items())
        raise RuntimeError(f"{said}; everything is stopped")
    finally:
        servers_file(root).unlink(missing_ok=True)
        if "worker" in parts:
            end_flows(parts["worker"])
        for process in reversed(parts.values()):
            processes.stop(process, grace=STOP_SECONDS)


def start_mlflow(root: Path, port: int) -> tuple[subprocess.Popen, str]:
    """Start MLflow's server on the store; returns it and its address, at which it answers some seconds later.

    Database and place of the artifacts are those of MLflow's own variables, without them the project's.
    """
    command = ["python", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    settings = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes that nothing here uses
        "MLFLOW_BACKEND_STORE_URI": os.environ.get("MLFLOW_BACKEND_STORE_URI") or store_uri(root),
    }
    if not any(map(os.environ.get, ("MLFLOW_DEFAULT_ARTIFACT_ROOT", "MLFLOW_ARTIFACTS_DESTINATION"))):
        settings["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = artifact_folder(root).as_uri()
    return processes.start(command, root=root, environment=settings), f"http://127.0.0.1:{port}"


def start_prefect(root: Path, port: int, **settings: str) -> tuple[subprocess.Popen, str]:
    """Start Prefect's server with further variables, wait until it answers; returns it and its address.

    One at a time: two servers that set up the same new database at once trip over each other's rows.

    Raises RuntimeError: it ended, or it did not answer in time.
    """
    address, leases = f"http://127.0.0.1:{port}", "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
    command = ["python", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--log-level", "error", "--lifespan", "on", "--timeout-keep-alive", "5"]
    # With leases in memory, the next server would never free the slot of a flow that was killed.
    settings |= {"PREFECT__SERVER_FINAL": "1", leases: os.environ.get(leases) or LEASES}
    if not any(map(os.environ.get, ("PREFECT_UI_API_URL", "PREFECT_SERVER_UI_API_URL"))):
        settings["PREFECT_SERVER_UI_API_URL"] = f"{address}/api"  # its page would ask port 4200 otherwise
    turn = home_project(root) / ".cache" / "prefect-start.lock"
    turn.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(turn):
        process = processes.start(command, root=root, environment=settings)
        try:
            wait_until_up(process, f"{address}{HEALTH['prefect']}")
        except BaseException:
            processes.stop(process, grace=5)
            raise
    return process, address


def start_worker(root: Path, api: str) -> subprocess.Popen:
    """Declare the deployments of prefect.yaml, and start the worker that runs what is due, each in its own process.

    Raises RuntimeError: a declaration was refused; the reason is among the messages above.
    """
    given = {"root": root, "environment": {"PREFECT_API_URL": api}}
    for command in (["work-pool", "create", POOL, "--type", "process", "--overwrite"], ["deploy", "--all"]):
        if status := processes.start([*PREFECT, *command], **given).wait():
            raise RuntimeError(f"`prefect {' '.join(command)}` ended with status {status}")
    return processes.start([*PREFECT, "worker", "start", "--pool", POOL, "--name", "local"], **given)


def end_flows(worker: subprocess.Popen) -> None:
    """Let the flows of a worker stop their stages and close their runs while the servers listen: it does not wait."""
    with suppress(psutil.Error):  # ended by themselves
        flows = [one for one in psutil.Process(worker.pid).children(recursive=True) if ENGINE in one.cmdline()]
        for process in flows:
            process.terminate()
        psutil.wait_procs(flows, timeout=STOP_SECONDS / 2)


def prefect_api(root: Path) -> str:
    """Address of a Prefect API: the caller's PREFECT_API_URL, a running server's, or a temporary one of this process.

    The temporary server ends after everything else at exit, since Prefect still sends its last logs then. Prefect would
    start such a server by itself, but that one outlives a flow that is killed with -9.
    """
    if api := os.environ.get("PREFECT_API_URL"):
        return api
    server = running_servers(root).get("prefect")
    if server is None:  # its services that start scheduled runs and tidy up are not needed
        process, server = start_prefect(root, free_port(0), PREFECT__SERVER_EPHEMERAL="1")
        atexit.register(processes.stop, process, grace=5)
    return f"{server}/api"


def free_port(first: int) -> int:
    """The first port from `first` on that nobody listens on; for 0 any, so that two at once do not take the same."""
    for port in range(first, first + 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
            except OSError:
                continue
    raise OSError(f"no free port between {first} and {first + 199}")


def wait_until_up(process: subprocess.Popen, url: str) -> None:
    """Wait until a server answers. Raises RuntimeError: it ended, or it did not answer in time."""
    end = time.monotonic() + START_SECONDS
    while not answers(url):
        if process.poll() is not None:
            raise RuntimeError(f"{url}: the server ended with status {process.returncode}; see its messages above")
        if time.monotonic() > end:
            raise RuntimeError(f"{url}: no answer after {START_SECONDS:g} s")
        time.sleep(0.2)


def command(
    pages: Annotated[bool, typer.Option("--pages", help="The servers alone: nothing is run when it is due.")] = False,
) -> None:
    """Servers and worker on this machine, until Ctrl-C."""
    fault = "the servers of this project run already (process {pid}, since {started}); stop it with `kill {pid}`,"
    lock = home_project(PROJECT_ROOT) / ".cache" / "serve.lock"
    with held(lock, f"{fault} or use them: .cache/servers.json names them"):
        serve(PROJECT_ROOT, worker=not pages)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 after Ctrl-C or SIGTERM, 1 when something ended, did not come up or runs already."""
    return run(command, arguments, failures=(RuntimeError, OSError), stopped=0)


if __name__ == "__main__":
    sys.exit(main())
