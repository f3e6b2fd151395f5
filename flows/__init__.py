"""Runs the pipeline with Prefect: order, retries, time limits, progress, schedule. Imports no torch.

Importing this package applies the project's environment, because Prefect reads its settings at import.
"""

import os
import sys
from pathlib import Path

from editgan.runtime.environment import apply_environment

apply_environment()
try:
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # Prefect creates no parent folders
except OSError as error:
    sys.exit(f"{error.filename}: cannot be written to ({error.strerror}); copy the project to a folder of yours")
