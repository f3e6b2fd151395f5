"""Servers on localhost: starting them and finding one."""

import atexit
import os
import socket
import subprocess
import time
from pathlib import Path

from filelock import FileLock

from editgan.runtime.environment import HEALTH, answers, artifact_folder, home_project, running_servers, store_uri
from flows import processes

LEASES = "prefect.server.concurrency.lease_storage.filesystem"
START_SECONDS = 180.0  # a loaded machine and a first database migration; normally 5 to 15


def free_port(first: int) -> int:
    """The first port from `first` on that nobody listens on; 0 takes any, so that two at once do not take the same."""
    for port in range(first, first + 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
            except OSError:
                continue
    raise OSError(f"no free port between {first} and {first + 199}")


def local(port: int) -> str:
    """Address of a server on this machine."""
    return f"http://127.0.0.1:{port}"


def start_prefect(root: Path, port: int, *, scheduler: bool = True) -> subprocess.Popen:
    """Start Prefect's server and wait until it answers.

    One at a time: two servers that set up the same new database at once trip over each other's rows.

    Args:
        scheduler: with the services that start scheduled runs and tidy up; a single flow does without.

    Raises:
        RuntimeError: it ended, or it did not answer in time.
    """
    command = ["python", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--log-level", "error", "--lifespan", "on", "--timeout-keep-alive", "5"]
    settings = {"PREFECT__SERVER_FINAL": "1"}
    if not os.environ.get("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"):
        # In memory, the next server would know no lease: it would never free the slot of a flow that was killed.
        settings["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] = LEASES
    if not any(map(os.environ.get, ("PREFECT_UI_API_URL", "PREFECT_SERVER_UI_API_URL"))):
        settings["PREFECT_SERVER_UI_API_URL"] = f"{local(port)}/api"  # its page would ask port 4200 otherwise
    if not scheduler:
        settings["PREFECT__SERVER_EPHEMERAL"] = "1"
    turn = home_project(root) / ".cache" / "prefect-start.lock"
    turn.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(turn):
        process = processes.start(command, root=root, environment=settings)
        try:
            wait_until_up(process, port, HEALTH["prefect"])
        except BaseException:
            processes.stop(process, grace=5)
            raise
    return process


def start_mlflow(root: Path, port: int) -> subprocess.Popen:
    """Start MLflow's server on the store; it answers some seconds later.

    Database and place of the artifacts are those of MLflow's own variables, without them the project's.
    """
    command = ["python", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # seven more processes that nothing here uses
    if not os.environ.get("MLFLOW_BACKEND_STORE_URI"):
        settings["MLFLOW_BACKEND_STORE_URI"] = store_uri(root)
    if not any(map(os.environ.get, ("MLFLOW_DEFAULT_ARTIFACT_ROOT", "MLFLOW_ARTIFACTS_DESTINATION"))):
        settings["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = artifact_folder(root).as_uri()
    return processes.start(command, root=root, environment=settings)


def wait_until_up(process: subprocess.Popen, port: int, path: str) -> None:
    """Wait until a server answers.

    Raises:
        RuntimeError: it ended, or it did not answer in time.
    """
    url, end = f"{local(port)}{path}", time.monotonic() + START_SECONDS
    while not answers(url):
        if process.poll() is not None:
            raise RuntimeError(f"{url}: the server ended with status {process.returncode}; see its messages above")
        if time.monotonic() > end:
            raise RuntimeError(f"{url}: no answer after {START_SECONDS:g} s")
        time.sleep(0.2)


def prefect_api(root: Path) -> str:
    """Address of a Prefect API: the caller's PREFECT_API_URL, a running server's, or a temporary one of this process.

    The temporary server ends after everything else at exit, since Prefect still sends its last logs then. Prefect would
    start such a server by itself, but that one outlives a flow that is killed with -9.
    """
    if os.environ.get("PREFECT_API_URL"):
        return os.environ["PREFECT_API_URL"]
    known = running_servers(root)
    if "prefect" in known:
        return f"{known['prefect']}/api"
    port = free_port(0)
    atexit.register(processes.stop, start_prefect(root, port, scheduler=False), grace=5)
    return f"{local(port)}/api"
