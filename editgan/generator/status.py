"""Progress of generator trainings, read from their files."""

import json
import time
from pathlib import Path

from editgan.runtime.progress import clock

SHOWN = ("kid", "precision", "recall")  # name prefixes of the metrics to show
SILENT_SECONDS = 120.0  # an unfinished training without a step for this long is reported as stopped


def statuses(root: Path) -> list[str]:
    """One paragraph per training: of this project, then of every checkout in runs/ that has one."""
    folders = [root, *sorted(path for path in (root / "runs").glob("*") if path.is_dir())]
    found = [(folder, folder / "work" / "generator" / "progress.json") for folder in folders]
    return [status(folder, progress) for folder, progress in found if progress.exists()]


def status(folder: Path, progress: Path) -> str:
    """kimg, images per second, time left, last and best metrics."""
    report = json.loads(progress.read_text())
    done, total, left = report["done"], report["total"], report["eta_seconds"]
    lines = [f"{folder}: {done:.1f} of {total:g} kimg"]
    idle = time.time() - progress.stat().st_mtime
    if done >= total:
        lines[0] += ", finished"
    elif idle > SILENT_SECONDS:
        lines[0] += f", no step for {clock(idle)}: stopped; run the stage again to resume"
    elif left:
        lines[0] += f", {(total - done) * 1000 / left:.1f} images/s, {clock(left)} left"
    rows = read_rows(folder / "outputs" / "generator" / "stats.jsonl")
    measured = [row for row in rows if any(name.startswith(SHOWN) for name in row)]
    if measured:
        kid = next(name for name in measured[-1] if name.startswith("kid"))
        best = min(measured, key=lambda row: row.get(kid, float("inf")))
        lines += [f"  {title} {figures(row)}" for title, row in (("last", measured[-1]), ("best", best))]
    return "\n".join(lines)


def figures(row: dict) -> str:
    shown = [f"{name} {value:.4f}" for name, value in sorted(row.items()) if name.startswith(SHOWN)]
    return f"at {row['kimg']:g} kimg: {', '.join(shown)}"


def read_rows(path: Path) -> list[dict]:
    """The lines of a stats.jsonl; [] if it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
