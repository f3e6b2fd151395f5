"""Prefect's record of flow runs in its sqlite file, read and corrected while its server is down."""

import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from editgan.runtime.damage import database_fault, reading
from editgan.runtime.environment import project_environment


def prefect_file(root: Path) -> Path:
    return Path(project_environment(root)["PREFECT_HOME"]) / "prefect.db"


def open_flow_runs(path: Path) -> list[tuple[str, str, float]]:
    """Flow runs that have begun and not ended: id, name, when they began; none where there is no such record."""
    query = "SELECT id, name, start_time FROM flow_run WHERE state_type IN ('RUNNING', 'CANCELLING')"
    rows = [
        row for row in _rows(path, query) if row[2] is not None
    ]  # one that was cancelled before it began has no time
    return [(run, name, datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp()) for run, name, start in rows]


def flow_run_ids(path: Path) -> set[str]:
    """Every flow run of the record."""
    return {run for (run,) in _rows(path, "SELECT id FROM flow_run")}


def _rows(path: Path, query: str) -> list[tuple]:
    if not path.exists() or database_fault(path):
        return []
    with reading(path) as database:
        made = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'flow_run'").fetchone()
        return database.execute(query).fetchall() if made else []


def crash_flow_run(path: Path, run: str) -> None:
    """What Prefect's server does when a run is set to Crashed; it need not be up."""
    state, now = str(uuid.uuid4()), datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        database.execute(
            "INSERT INTO flow_run_state (id, type, name, timestamp, message, flow_run_id) VALUES (?, ?, ?, ?, ?, ?)",
            (state, "CRASHED", "Crashed", now, "its process was killed", run),
        )
        database.execute(
            "UPDATE flow_run SET state_id = ?, state_type = 'CRASHED', state_name = 'Crashed', state_timestamp = ?,"
            " end_time = ? WHERE id = ? AND state_type IN ('RUNNING', 'CANCELLING')",
            (state, now, now, run),
        )
