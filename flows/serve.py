"""`python -m flows.serve`: Prefect's server, MLflow's server and a worker on this machine, until Ctrl-C.

The worker runs the deployments of prefect.yaml. If one part ends, all are stopped. A server that the environment names
(PREFECT_API_URL, MLFLOW_TRACKING_URI) is used instead of a new one.
"""

import atexit
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psutil
import typer
from filelock import FileLock

from editgan.runtime import environment as project
from editgan.runtime.environment import HEALTH, PROJECT_ROOT
from editgan.runtime.locks import held
from flows import processes
from flows.command import run

PREFECT = ("python", "-m", "prefect", "--no-prompt")
STOP_SECONDS = 40.0  # for each part; a flow needs up to 20 for its stage


def serve(root: Path, worker: bool) -> None:
    """Start all parts, wait for Ctrl-C or until one of them ends, then stop all.

    Raises RuntimeError: a part did not start, or it ended; the reason is among the messages above.
    """
    api, store = os.environ.get("PREFECT_API_URL"), project.store_uri(root)
    parts, own = {}, {}
    try:
        if not store.startswith("http"):
            parts["mlflow"], own["mlflow"] = start_mlflow(root, free_port(5000))
        if not api:
            parts["prefect"], own["prefect"] = start_prefect(root, free_port(4200))
        for name, url in own.items():
            wait_until_up(parts[name], f"{url}{HEALTH[name]}")
        project.servers_file(root).parent.mkdir(parents=True, exist_ok=True)
        project.servers_file(root).write_text(json.dumps(own))
        if worker:
            parts["worker"] = start_worker(root, api or f"{own['prefect']}/api")
        print(f"MLflow   {own.get('mlflow', store)}\nPrefect  {own.get('prefect', api)}")
        due = "The deployments of prefect.yaml run when they are due. " if worker else ""
        print(f"{due}Ctrl-C stops everything.", flush=True)
        while not (ended := [name for name, part in parts.items() if part.poll() is not None]):
            time.sleep(0.5)
        raise RuntimeError(f"{ended[0]} ended with status {parts[ended[0]].poll()}; everything is stopped")
    finally:
        project.servers_file(root).unlink(missing_ok=True)
        for part in reversed(parts.values()):  # the worker first: its flow reports its end to the servers
            processes.stop(part, STOP_SECONDS)


def start_mlflow(root: Path, port: int) -> tuple[psutil.Popen, str]:
    """Start MLflow's server; returns it and its address. MLflow's own variables replace the project's store."""
    command = ["python", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    settings = {"MLFLOW_BACKEND_STORE_URI": os.environ.get("MLFLOW_BACKEND_STORE_URI") or project.store_uri(root)}
    if not os.environ.get("MLFLOW_ARTIFACTS_DESTINATION"):
        folder = project.artifact_folder(root).as_uri()
        settings["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT") or folder
    return processes.start(command, root=root, environment=settings), f"http://127.0.0.1:{port}"


def start_prefect(root: Path, port: int, *options: str) -> tuple[psutil.Popen, str]:
    """Start Prefect's server with further options; returns it and its address."""
    command = [*PREFECT, "server", "start", "--log-level", "error", *options]
    settings = {"PREFECT_SERVER_API_PORT": str(port)}  # not --port, so that the server's page asks this port too
    process = processes.start(command, root=root, environment=settings, stdout=subprocess.DEVNULL)  # without its banner
    return process, f"http://127.0.0.1:{port}"


def start_worker(root: Path, api: str) -> psutil.Popen:
    """Register the deployments of prefect.yaml, and start the worker, which runs each in a process of its own.

    Raises RuntimeError: a registration failed; the reason is among the messages above.
    """
    given = {"root": root, "environment": {"PREFECT_API_URL": api}}
    for command in ("work-pool create local --type process --overwrite", "deploy --all"):
        if status := processes.start([*PREFECT, *command.split()], **given).wait():
            raise RuntimeError(f"`prefect {command}` ended with status {status}")
    return processes.start([*PREFECT, "worker", "start", "--pool", "local", "--name", "local"], **given)


def prefect_api(root: Path) -> str:
    """Address of a Prefect API: PREFECT_API_URL, a running server's, or a temporary server's of this process.

    Prefect would start a temporary server itself, but that one outlives a flow that is killed with -9.
    """
    if api := os.environ.get("PREFECT_API_URL"):
        return api
    url = project.running_servers(root).get("prefect")
    if url is None:  # a random port, so that two flows that start together get different ones
        with FileLock(Path(os.environ["PREFECT_HOME"]) / "start.lock"):  # two first starts would fill one database
            server, url = start_prefect(root, free_port(random.randrange(20000, 30000)), "--no-scheduler")
            atexit.register(processes.stop, server, grace=5)  # at exit Prefect still sends its last logs
            wait_until_up(server, f"{url}{HEALTH['prefect']}")
    return f"{url}/api"


def free_port(first: int) -> int:
    """The first port from `first` on that this machine does not use."""
    used = {connection.laddr.port for connection in psutil.net_connections("tcp") if connection.laddr}
    return next(port for port in itertools.count(first) if port not in used)


def wait_until_up(process: psutil.Popen, url: str) -> None:
    """Wait until a server answers. Raises RuntimeError: it ended."""
    while not project.answers(url):
        if process.poll() is not None:
            raise RuntimeError(f"{url}: the server ended with status {process.poll()}; see its messages above")
        time.sleep(0.2)


def command(
    pages: Annotated[bool, typer.Option("--pages", help="Only the servers; no deployment is run.")] = False,
) -> None:
    """Run the servers and a worker on this machine until Ctrl-C."""
    fault = "the servers of this project run already (process {pid}, since {started}); stop them with `kill {pid}`,"
    lock = project.home_project(PROJECT_ROOT) / ".cache" / "serve.lock"
    with held(lock, f"{fault} or use them: .cache/servers.json names them"):
        try:
            serve(PROJECT_ROOT, worker=not pages)
        finally:
            for left in psutil.Process().children():  # a flow whose worker was killed
                processes.stop(left)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 after Ctrl-C or SIGTERM, 1 if a part ended or did not start, or all run already."""
    return run(command, arguments, failures=(RuntimeError,), stopped=0)


if __name__ == "__main__":
    sys.exit(main())
