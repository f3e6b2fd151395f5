"""Take the pictures of the pages in docs/ with a real browser: Prefect and MLflow.

    make serve &                       # or make ui: the servers whose pages are shown
    python scripts/screenshots.py [--to docs] [--browser chromium]

Needs Chromium (on Debian and Ubuntu the package chromium), and a record with a run of the pipeline that has ended. Look
at what it takes before committing it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from PIL import Image

from editgan.runtime.environment import PROJECT_ROOT

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-quic",
)  # fmt: skip
LOADED = 20_000  # of the page's own clock, in ms, which runs ahead while it waits
COLOURS = 64  # of the pictures that are kept: pages are drawn in few
WIDTH = 1440  # px
MLFLOW_WIDTH = 1064  # px that are kept; MLflow opens a chat beside


def ask(url: str, body: dict) -> list | dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def pages() -> dict[str, tuple[str, int, int]]:
    """Address of each page, height, and the width that is kept, by the name of the picture."""
    try:
        servers = json.loads((PROJECT_ROOT / ".cache" / "servers.json").read_text())
    except FileNotFoundError:
        sys.exit("no servers run here; start `make ui` first")
    prefect, mlflow = servers["prefect"], servers["mlflow"]
    ended = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "START_TIME_DESC", "limit": 1}
    runs = ask(f"{prefect}/api/flow_runs/filter", ended)
    if not runs:
        sys.exit("no run of the pipeline has ended yet; run `make demo` first")
    experiments = ask(f"{mlflow}/api/2.0/mlflow/experiments/search", {"max_results": 100})["experiments"]
    number = next(each["experiment_id"] for each in experiments if each["name"] == "editgan")
    named = {"experiment_ids": [number], "filter": "attributes.run_name = 'generator'", "max_results": 1}
    run = ask(f"{mlflow}/api/2.0/mlflow/runs/search", named)["runs"][0]["info"]["run_id"]
    return {
        "page_prefect": (f"{prefect}/runs/flow-run/{runs[0]['id']}", 1000, WIDTH),
        "page_mlflow": (f"{mlflow}/#/experiments/{number}/runs/{run}", 900, MLFLOW_WIDTH),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("docs"))
    parser.add_argument("--browser", default="chromium")
    options = parser.parse_args()
    browser = shutil.which(options.browser)
    if browser is None:
        sys.exit(f"{options.browser} is not on PATH; install Chromium or name it with --browser")
    options.to.mkdir(parents=True, exist_ok=True)
    for name, (url, height, kept) in pages().items():
        path = options.to / f"{name}.png"
        with tempfile.TemporaryDirectory() as profile:
            size = f"--window-size={WIDTH},{height}", f"--virtual-time-budget={LOADED}", f"--user-data-dir={profile}"
            command = [browser, *FLAGS, *size, f"--screenshot={path}", url]
            subprocess.run(command, check=True, capture_output=True)
        picture = Image.open(path).convert("RGB").crop((0, 0, kept, height))
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
