"""The script for a machine with a GPU and little else imports nothing that such a machine lacks."""

import subprocess
import sys

from editgan.runtime.environment import PROJECT_ROOT

ABSENT = ("mlflow", "prefect", "dvc", "cleanfid", "lpips", "torchmetrics", "torchvision", "typer", "rich", "pandas")


def test_script_for_the_gpu_needs_few_packages():
    blocked = f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT!r}))"
    script = PROJECT_ROOT / "scripts" / "gpu_train.py"
    found = subprocess.run(
        [sys.executable, "-c", f"{blocked}; runpy.run_path({str(script)!r})['scheduled']"],
        cwd=PROJECT_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
