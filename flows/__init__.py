"""The running of the pipeline under Prefect: order, retries, time limits, progress, schedule. No torch in here.

Importing this package gives the process the project's environment, which Prefect reads when it is imported.
"""

import os
from pathlib import Path

from editgan.runtime.environment import apply_environment

apply_environment()
Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # Prefect makes no parent folders
