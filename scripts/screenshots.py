"""Take the pictures of the pages in docs/ with a real browser: report, Prefect, MLflow.

    make serve &                       # or make ui: the servers whose pages are shown
    python scripts/screenshots.py [--outputs outputs] [--to docs] [--browser chromium]

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
    "--disable-background-networking", "--disable-component-update", "--disable-quic", "--allow-file-access-from-files",
)  # fmt: skip
LOADED = 20_000  # of the page's own clock, in ms, which runs ahead while it waits
COLOURS = 64  # of the pictures that are kept: pages are drawn in few
PHONE = 390  # px
CUT = {
    "page_report_phone": PHONE,
    "page_mlflow": 1064,
}  # px of the width; MLflow opens a chat beside


def ask(url: str, body: dict | None = None) -> list | dict:
    request = urllib.request.Request(url, json.dumps(body or {}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def addresses(root: Path) -> dict[str, str]:
    try:
        return json.loads((root / ".cache" / "servers.json").read_text())
    except FileNotFoundError:
        sys.exit("no servers run here; start `make ui` first")


def pages(root: Path, outputs: Path, folder: Path) -> dict[str, tuple[str, int, int]]:
    """Addresses and sizes of the pages by the name of their picture; `folder` is for pages of our own."""
    servers = addresses(root)
    prefect, mlflow = servers["prefect"], servers["mlflow"]
    ended = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "START_TIME_DESC", "limit": 1}
    runs = ask(f"{prefect}/api/flow_runs/filter", ended)
    if not runs:
        sys.exit("no run of the pipeline has ended yet; run `make demo` first")
    experiments = ask(f"{mlflow}/api/2.0/mlflow/experiments/search", {"max_results": 100})["experiments"]
    number = next(each["experiment_id"] for each in experiments if each["name"] == "editgan")
    named = {"experiment_ids": [number], "filter": "attributes.run_name = 'generator'", "max_results": 1}
    run = ask(f"{mlflow}/api/2.0/mlflow/runs/search", named)["runs"][0]["info"]["run_id"]
    report = (outputs / "benchmark" / "report.html").resolve().as_uri()
    phone = folder / "phone.html"  # a window has a least width, a frame has none
    phone.write_text(f'<body style="margin:0"><iframe src="{report}" style="width:{PHONE}px;height:844px;border:0">')
    return {
        "page_report": (report, 1440, 1400),
        "page_report_phone": (phone.as_uri(), 600, 844),
        "page_prefect": (f"{prefect}/runs/flow-run/{runs[0]['id']}", 1440, 1000),
        "page_mlflow": (f"{mlflow}/#/experiments/{number}/runs/{run}", 1440, 900),
    }


def shoot(browser: str, url: str, width: int, height: int, path: Path) -> None:
    with tempfile.TemporaryDirectory() as profile:
        size = (f"--window-size={width},{height}", f"--virtual-time-budget={LOADED}", f"--user-data-dir={profile}")
        subprocess.run([browser, *FLAGS, *size, f"--screenshot={path}", url], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder of the stages' outputs")
    parser.add_argument("--to", type=Path, default=Path("docs"))
    parser.add_argument("--browser", default="chromium")
    options = parser.parse_args()
    browser = shutil.which(options.browser)
    if browser is None:
        sys.exit(f"{options.browser} is not on PATH; install Chromium or name it with --browser")
    options.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, (url, width, height) in pages(PROJECT_ROOT, options.outputs, Path(scratch)).items():
            path = options.to / f"{name}.png"
            shoot(browser, url, width, height, path)
            picture = Image.open(path).convert("RGB")
            picture = picture.crop((0, 0, CUT.get(name, width), height))
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
            print(path)


if __name__ == "__main__":
    main()
