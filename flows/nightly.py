"""`python -m flows.nightly`: run the deployments of prefect.yaml whenever they are due, until Ctrl-C.

Uses the Prefect server that `python -m flows.ui` has started, or one of its own.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from editgan.environment import PROJECT_ROOT
from flows import processes, servers

POOL = "local"
FLOW_SECONDS = 30.0  # a flow stops its stage and reports in this time


def start_worker(root: Path, prefect_url: str) -> subprocess.Popen:
    """Declare the deployments of prefect.yaml and start the worker that runs them in processes of their own.

    Raises:
        RuntimeError: the work pool or the deployments were refused; the reason is among the messages above.
    """
    environment = {"PREFECT_API_URL": f"{prefect_url}/api"}
    prefect = ["python", "-m", "prefect", "--no-prompt"]
    for command in (["work-pool", "create", POOL, "--type", "process", "--overwrite"], ["deploy", "--all"]):
        process = processes.start([*prefect, *command], root=root, environment=environment, stdin=subprocess.DEVNULL)
        if process.wait():
            raise RuntimeError(f"`prefect {' '.join(command)}` ended with status {process.returncode}")
    worker = [*prefect, "worker", "start", "--pool", POOL, "--name", "local"]
    return processes.start(worker, root=root, environment=environment, stdin=subprocess.DEVNULL)


def wait_for_flows(root: Path, seconds: float = FLOW_SECONDS) -> None:
    """Wait for the flows of a worker that is gone: they end by themselves, and the server has to hear of it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(_is_flow(process, root) for process in psutil.process_iter()):
        time.sleep(0.2)


def _is_flow(process: psutil.Process, root: Path) -> bool:
    try:
        return "prefect.engine" in process.cmdline() and Path(process.cwd()) == root
    except (psutil.Error, OSError):
        return False


def main() -> int:
    """Returns the exit status: 0 after Ctrl-C, 1 when worker or server ended by itself."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started, own = [], {}
    try:
        url = servers.running(PROJECT_ROOT).get("prefect")
        if url is None:
            server, url = servers.start_prefect(PROJECT_ROOT)
            started.append(server)
            own["prefect"] = url
            servers.record(PROJECT_ROOT, own)
        started.append(start_worker(PROJECT_ROOT, url))
        print(f"The deployments of prefect.yaml run when they are due: {url}\nCtrl-C stops this.", flush=True)
        status = started[-1].wait()
        wait_for_flows(PROJECT_ROOT)
        return 1 if status else 0
    except KeyboardInterrupt:
        return 0
    finally:
        servers.forget(PROJECT_ROOT, own)
        for process in reversed(started):
            processes.stop(process, grace=10)


if __name__ == "__main__":
    sys.exit(main())
