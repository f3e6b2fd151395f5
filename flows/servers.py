"""Servers on localhost: which ones run (`make ui` writes that down), and starting them."""

import atexit
import fcntl
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from editgan.environment import home_project
from flows import processes

START_SECONDS = 180.0  # a loaded machine and a first database migration; normally 5 to 15
HEALTH = {"mlflow": "/health", "prefect": "/api/health"}


def record_path(root: Path) -> Path:
    """The file in which running servers are written down."""
    return home_project(root) / ".cache" / "servers.json"


def running(root: Path) -> dict[str, str]:
    """Address by name ("mlflow", "prefect") of every recorded server that answers."""
    return {name: url for name, url in _recorded(root).items() if answers(f"{url}{HEALTH[name]}")}


def record(root: Path, addresses: Mapping[str, str]) -> None:
    """Write down servers for flows and commands to find."""
    _write(root, _recorded(root) | dict(addresses))


def forget(root: Path, addresses: Mapping[str, str]) -> None:
    """Strike servers off the record, where it still holds these."""
    _write(root, dict(_recorded(root).items() - addresses.items()))


def _recorded(root: Path) -> dict[str, str]:
    try:
        return json.loads(record_path(root).read_text())
    except (OSError, ValueError):
        return {}


def _write(root: Path, addresses: Mapping[str, str]) -> None:
    path = record_path(root)
    if addresses:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(addresses))
    else:
        path.unlink(missing_ok=True)


def answers(url: str) -> bool:
    """Whether an address answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status == 200
    except (OSError, urllib.error.URLError, ValueError):
        return False


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


def start_prefect(root: Path, *, first_port: int = 4200, scheduler: bool = True) -> tuple[subprocess.Popen, str]:
    """Start Prefect's server and wait until it answers; returns process and address (without /api).

    One at a time: two servers that set up the same new database at once trip over each other's rows.

    Args:
        scheduler: with the services that start scheduled runs and tidy up; a single flow does without.

    Raises:
        RuntimeError: it ended, or it did not answer in time.
    """
    port = free_port(first_port)
    url = f"http://127.0.0.1:{port}"
    command = ["python", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--log-level", "error", "--lifespan", "on", "--timeout-keep-alive", "5"]
    flags = {"PREFECT__SERVER_FINAL": "1"}
    if not scheduler:
        flags["PREFECT__SERVER_EPHEMERAL"] = "1"
    turn = home_project(root) / ".cache" / "prefect-start.lock"
    turn.parent.mkdir(parents=True, exist_ok=True)
    with turn.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = processes.start(command, root=root, environment=flags, stdin=subprocess.DEVNULL)
        try:
            wait_until_up(process, f"{url}{HEALTH['prefect']}")
        except BaseException:
            processes.stop(process, grace=5)
            raise
    return process, url


def wait_until_up(process: subprocess.Popen, url: str) -> None:
    """Wait until a server answers.

    Raises:
        RuntimeError: it ended, or it did not answer in time.
    """
    end = time.monotonic() + START_SECONDS
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
    known = running(root)
    if "prefect" in known:
        return f"{known['prefect']}/api"
    process, url = start_prefect(root, first_port=0, scheduler=False)
    atexit.register(processes.stop, process, grace=5)
    return f"{url}/api"
