"""`python -m flows.pipeline --dry`: which stages would run, and why."""

import json
from collections.abc import Sequence
from pathlib import Path

from editgan.runtime.dvc import status
from editgan.runtime.graph import ancestors, load_graph

SHOWN = 3  # most files to name for each kind of change


def dry(root: Path, chosen: Sequence[str], force: Sequence[str] | None) -> str:
    """A line for each of the chosen stages that may run: its minutes last time, and what has changed according to DVC.

    These are the most stages that can run: a stage that follows others runs only if their outputs change, and missing
    outputs may be in the store. `force` is that of the pipeline.

    Raises DvcFailed: `dvc status` failed.
    """
    if not root.exists():
        return f"{root} does not exist yet; it will be created, and every stage may run"
    graph, changed = load_graph(root / "dvc.yaml"), changes(root)
    for stage in (force or chosen) if force is not None else ():
        changed.setdefault(stage, []).append("forced")
    lines, total = [f"{'stage':16}minutes  why"], 0.0
    for stage in chosen:
        follows = [one for one in chosen if one in changed and one in ancestors(graph, stage)]
        why = [*changed.get(stage, ()), *([f"follows {', '.join(follows)}"] if follows else [])]
        if why:
            try:
                seconds = json.loads((root / "outputs" / stage / "run.json").read_text())["seconds"]
            except (OSError, ValueError, KeyError):
                seconds = None
            total += seconds or 0.0
            minutes = "?" if seconds is None else f"{seconds / 60:.1f}"
            lines.append(f"{stage:16}{minutes:>7}  {'; '.join(why)}")
    if len(lines) == 1:
        return "nothing would run: nothing has changed"
    return "\n".join([*lines, f"{'at most':16}{total / 60:7.1f}  by the durations of the last runs; ?: unknown"])


def changes(root: Path) -> dict[str, list[str]]:
    """Changes of each stale stage by `dvc status`, e.g. {"data": ["changed deps: editgan/data modified"]}."""
    found: dict[str, list[str]] = {}
    for stage, entries in status(root).items():
        for entry in entries:
            ((kind, files),) = ({entry: {}} if isinstance(entry, str) else entry).items()
            names = [f"{name} {state if isinstance(state, str) else ', '.join(state)}" for name, state in files.items()]
            more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
            found.setdefault(stage, []).append(f"{kind}: {', '.join(names[:SHOWN] + more)}".removesuffix(": "))
    return found
