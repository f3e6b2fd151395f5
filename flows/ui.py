"""`python -m flows.ui`: the pages of MLflow and Prefect on this machine, until Ctrl-C."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from editgan.environment import PROJECT_ROOT, tracking_uri
from flows import processes, servers


def start_mlflow(root: Path, first_port: int = 5000) -> tuple[subprocess.Popen, str]:
    """Start MLflow's server on the project's store; returns process and address."""
    port = servers.free_port(first_port)
    command = ["python", "-m", "mlflow", "server", "--backend-store-uri", tracking_uri(root), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    no_jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # seven more processes that nothing here uses
    process = processes.start(command, root=root, environment=no_jobs, stdin=subprocess.DEVNULL)
    return process, f"http://127.0.0.1:{port}"


def main() -> int:
    """Returns the exit status: 0 after Ctrl-C, 1 when a server ended by itself."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started, addresses = [], {}
    try:
        for name, start in (("prefect", servers.start_prefect), ("mlflow", start_mlflow)):
            process, addresses[name] = start(PROJECT_ROOT)
            started.append(process)
        for process, (name, url) in zip(started, addresses.items(), strict=True):
            servers.wait_until_up(process, f"{url}{servers.HEALTH[name]}")
        servers.record(PROJECT_ROOT, addresses)
        print(f"MLflow   {addresses['mlflow']}\nPrefect  {addresses['prefect']}\nCtrl-C stops both.", flush=True)
        while all(process.poll() is None for process in started):
            time.sleep(1)
        print("a server ended by itself; see its messages above", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        servers.forget(PROJECT_ROOT, addresses)
        for process in reversed(started):
            processes.stop(process, grace=10)


if __name__ == "__main__":
    sys.exit(main())
