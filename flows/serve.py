"""`python -m flows.serve`: Prefect's server, MLflow's server and a worker on this machine, until Ctrl-C.

The worker runs the deployments of prefect.yaml when they are due. What ends by itself is started again, on the same
port. A server that the environment names (PREFECT_API_URL, MLFLOW_TRACKING_URI) is used, and none started beside it.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import psutil

from editgan.errors import UserError
from editgan.runtime.environment import HEALTH, PROJECT_ROOT, home_project, store_uri
from editgan.runtime.locks import held
from flows import processes, servers

POOL = "local"
ENGINE = "prefect.engine"  # in the command line of a flow that a worker runs
PREFECT = ("python", "-m", "prefect", "--no-prompt")
POLL_SECONDS = 0.5
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 60.0  # before another start; doubled each time
STEADY_SECONDS = 60.0  # after which a start has been a success
STOP_SECONDS = 40.0  # for the worker: its flow is given half of it to stop its stage


class Service:
    """A child process that is to be there."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen]) -> None:
        self.name, self._start = name, start
        self.process: subprocess.Popen | None = None
        self._pause, self._due, self._started = PAUSE_SECONDS, 0.0, 0.0

    def start(self) -> None:
        """Start it for the first time.

        Raises:
            RuntimeError: it does not come up.
        """
        self._started = time.monotonic()
        self.process = self._start()

    def look(self) -> None:
        """If it has ended, say so, end what it has left and start it again after a pause."""
        if self.process is None:
            if time.monotonic() >= self._due:
                try:
                    self.start()
                    say(f"{self.name}: started again")
                except (RuntimeError, OSError) as error:
                    self._put_off(str(error))
        elif self.process.poll() is not None:
            status = self.process.returncode
            self.stop()
            if time.monotonic() - self._started > STEADY_SECONDS:
                self._pause = PAUSE_SECONDS
            self._put_off(f"ended with status {status}")

    def stop(self) -> None:
        if self.process is not None:
            processes.stop(self.process, grace=STOP_SECONDS)
            self.process = None

    def _put_off(self, reason: str) -> None:
        say(f"{self.name}: {reason}; it is started again in {self._pause:g} s")
        self._due = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)


def serve(root: Path, worker: bool) -> None:
    """Start everything and look after it until a KeyboardInterrupt.

    Raises:
        RuntimeError: something did not come up at the first time; the reason is among the messages above.
    """
    ports, services = {}, {}
    api, store = os.environ.get("PREFECT_API_URL"), store_uri(root)
    try:
        with servers.choosing_ports():
            for name, given, start, first in (
                ("mlflow", store.startswith("http"), servers.start_mlflow, 5000),
                ("prefect", api, servers.start_prefect, 4200),
            ):
                if not given:
                    port = servers.free_port(first)
                    ports[name], services[name] = port, Service(name, partial(start, root, port))
                    services[name].start()
            for name, port in ports.items():
                servers.wait_until_up(services[name].process, port, HEALTH[name])
        own = {name: servers.local(port) for name, port in ports.items()}
        api = api or f"{own['prefect']}/api"
        servers.record(root, own)
        if worker:
            declare_deployments(root, api)
            services["worker"] = Service("worker", partial(start_worker, root, api))
            services["worker"].start()
        say(f"MLflow   {own.get('mlflow', store)}\nPrefect  {own.get('prefect', api)}")
        say(f"{'The deployments of prefect.yaml run when they are due. ' * worker}Ctrl-C stops everything.")
        while True:
            for service in services.values():
                service.look()
            time.sleep(POLL_SECONDS)
    finally:
        servers.record(root, {})
        if "worker" in services:
            end_flows(services["worker"].process)
        for service in reversed(services.values()):
            service.stop()


def declare_deployments(root: Path, api: str) -> None:
    """Make the work pool, if there is none of its name, and declare the deployments of prefect.yaml.

    Raises:
        RuntimeError: one of them was refused; the reason is among the messages above.
    """
    for command in (["work-pool", "create", POOL, "--type", "process", "--overwrite"], ["deploy", "--all"]):
        process = processes.start(
            [*PREFECT, *command], root=root, environment={"PREFECT_API_URL": api}, stdin=subprocess.DEVNULL
        )
        if process.wait():
            raise RuntimeError(f"`prefect {' '.join(command)}` ended with status {process.returncode}")


def start_worker(root: Path, api: str) -> subprocess.Popen:
    """Start the worker that runs what is due in processes of their own, which end with it."""
    command = [*PREFECT, "worker", "start", "--pool", POOL, "--name", "local"]
    environment = {"PREFECT_API_URL": api}
    return processes.start(command, root=root, environment=environment, whole_tree=True, stdin=subprocess.DEVNULL)


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


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 after Ctrl-C or SIGTERM, 1 when something did not come up or runs already."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description="Servers and worker, until Ctrl-C.")
    parser.add_argument("--pages", action="store_true", help="the servers alone: nothing is run when it is due")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        lock = home_project(PROJECT_ROOT) / ".cache" / "serve.lock"
        fault = "the servers of this project run already (process {pid}, since {started}); stop it with `kill {pid}`,"
        with held(lock, f"{fault} or use them: .cache/servers.json names them"):
            serve(PROJECT_ROOT, worker=not options.pages)
    except KeyboardInterrupt:
        return 0
    except (UserError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
