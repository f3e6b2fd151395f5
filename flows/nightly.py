"""`python -m flows.nightly`: run the deployments of prefect.yaml whenever they are due, until Ctrl-C.

Uses the Prefect server that `python -m flows.ui` has started, or one of its own.
"""

import signal
import subprocess
import sys
from pathlib import Path

from editgan.environment import PROJECT_ROOT
from flows import processes, servers

POOL = "local"


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
        return started[-1].wait() and 1
    except KeyboardInterrupt:
        return 0
    finally:
        servers.forget(PROJECT_ROOT, own)
        for process in reversed(started):
            processes.stop(process, grace=10)


if __name__ == "__main__":
    sys.exit(main())
