"""`python -m flows.serve`: Prefect's server, MLflow's server and a worker on this machine, until Ctrl-C.

The worker runs the deployments of prefect.yaml when they are due. If one of the three ends, all do. A server that the
environment names (PREFECT_API_URL, MLFLOW_TRACKING_URI) is used, and none started beside it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psutil
import typer
from filelock import FileLock

from editgan.runtime.environment import HEALTH, PROJECT_ROOT, home_project, servers_file, store_uri
from editgan.runtime.locks import held
from flows import processes, servers
from flows.command import run

POOL = "local"
ENGINE = "prefect.engine"  # in the command line of a flow that a worker runs
PREFECT = ("python", "-m", "prefect", "--no-prompt")
STOP_SECONDS = 40.0  # for each part; a flow is given half of it to stop its stage


def serve(root: Path, worker: bool) -> None:
    """Start everything and wait until a KeyboardInterrupt or until a part ends; then stop everything.

    Raises:
        RuntimeError: a part did not come up, or it has ended; the reason is among the messages above.
    """
    api, store = os.environ.get("PREFECT_API_URL"), store_uri(root)
    parts: dict[str, subprocess.Popen] = {}
    own: dict[str, str] = {}
    try:
        # One project of a user at a time: a port that is free when it is chosen is taken only seconds later.
        with FileLock(Path(tempfile.gettempdir()) / f"editgan-ports-{os.getuid()}.lock"):
            if not store.startswith("http"):
                port = servers.free_port(5000)
                parts["mlflow"], own["mlflow"] = servers.start_mlflow(root, port), servers.local(port)
            if not api:
                number = servers.free_port(4200)
                parts["prefect"], own["prefect"] = servers.start_prefect(root, number), servers.local(number)
            if "mlflow" in parts:
                servers.wait_until_up(parts["mlflow"], port, HEALTH["mlflow"])
        api = api or f"{own['prefect']}/api"
        servers_file(root).parent.mkdir(parents=True, exist_ok=True)
        servers_file(root).write_text(json.dumps(own))
        if worker:
            declare_deployments(root, api)
            parts["worker"] = start_worker(root, api)
        print(f"MLflow   {own.get('mlflow', store)}\nPrefect  {own.get('prefect', api)}")
        print(
            f"{'The deployments of prefect.yaml run when they are due. ' * worker}Ctrl-C stops everything.", flush=True
        )
        while all(process.poll() is None for process in parts.values()):
            time.sleep(0.5)
        ended = [
            f"{name} ended with status {part.returncode}" for name, part in parts.items() if part.poll() is not None
        ]
        raise RuntimeError(f"{', '.join(ended)}; everything is stopped")
    finally:
        servers_file(root).unlink(missing_ok=True)
        end_flows(parts.get("worker"))
        for process in reversed(parts.values()):
            processes.stop(process, grace=STOP_SECONDS)


def declare_deployments(root: Path, api: str) -> None:
    """Make the work pool, if there is none of its name, and declare the deployments of prefect.yaml.

    Raises:
        RuntimeError: one of them was refused; the reason is among the messages above.
    """
    for command in (["work-pool", "create", POOL, "--type", "process", "--overwrite"], ["deploy", "--all"]):
        process = processes.start([*PREFECT, *command], root=root, environment={"PREFECT_API_URL": api})
        if process.wait():
            raise RuntimeError(f"`prefect {' '.join(command)}` ended with status {process.returncode}")


def start_worker(root: Path, api: str) -> subprocess.Popen:
    """Start the worker that runs what is due in processes of their own, which end with it."""
    command = [*PREFECT, "worker", "start", "--pool", POOL, "--name", "local"]
    return processes.start(command, root=root, environment={"PREFECT_API_URL": api})


def end_flows(worker: subprocess.Popen | None) -> None:
    """Let the flows of a worker stop their stages and close their runs while the servers listen: it does not wait."""
    try:
        below = psutil.Process(worker.pid).children(recursive=True) if worker is not None else []
        flows = [process for process in below if ENGINE in process.cmdline()]
        for process in flows:
            process.terminate()
        psutil.wait_procs(flows, timeout=STOP_SECONDS / 2)
    except psutil.Error:  # ended by themselves
        return


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
