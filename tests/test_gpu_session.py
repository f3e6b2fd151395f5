"""The script for a machine with a GPU and little else imports only what that machine has or what travels with it."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires

import pytest

from editgan.runtime.environment import PROJECT_ROOT

PRESENT = ("torch", "numpy", "safetensors")
SCRIPT = PROJECT_ROOT / "scripts" / "gpu_train.py"


def plain(name: str) -> str:
    """A package's name without version, extras and spelling."""
    return re.match(r"[\w.-]+", name).group().lower().replace("_", "-")


def with_requirements(names: tuple[str, ...]) -> set[str]:
    found, open_ = set(), set(names)
    while open_:
        name = open_.pop()
        found.add(name)
        try:
            needed = {plain(one) for one in requires(name) or () if "extra ==" not in one}
        except ModuleNotFoundError:
            continue
        open_ |= needed - found
    return found


@pytest.mark.slow
def test_script_for_the_gpu_needs_few_packages():
    session = (PROJECT_ROOT / "scripts" / "gpu_session.sh").read_text()
    travels = set(re.search(r"PACKAGES=\((.*)\)", session).group(1).split())
    there = with_requirements(PRESENT) | travels | {"editgan"}
    absent = {
        module
        for module, packages in packages_distributions().items()
        if not {plain(package) for package in packages} & there and module.isidentifier()
    }
    assert {"mlflow", "prefect", "torchvision"} <= absent
    loaded = f"import runpy, sys; sys.modules.update(dict.fromkeys({absent!r})); runpy.run_path({str(SCRIPT)!r})"
    ran = subprocess.run([sys.executable, "-c", loaded], cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
