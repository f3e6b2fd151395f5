"""Progress of a stage: printed lines with the remaining time, and a file for other processes."""

import json
import os
import time
from pathlib import Path

PRINT_SECONDS = 10.0
FILE_SECONDS = 1.0


class Progress:
    """Prints "done of total" at most every ten seconds, and writes it to a file at most every second."""

    def __init__(self, name: str, path: Path | None = None) -> None:
        self.name = name
        self.path = path
        self._phase: tuple | None = None  # total and unit; a change starts a new estimate
        self._start = (0.0, 0.0)  # time and count at the first report of this phase
        self._last_done = 0.0
        self._printed = self._written = float("-inf")

    def update(self, done: float, total: float, unit: str, message: str = "") -> bool:
        """Report; returns True when a line was printed.

        Args:
            done, total: how many of how many `unit`s (images, kimg, steps ...).
            message: additional text, e.g. losses.
        """
        now = time.monotonic()
        phase, finished = (total, unit), done >= total
        if phase != self._phase or done < self._last_done:
            self._phase, self._start, self._printed = phase, (now, done), float("-inf")
        self._last_done = done
        eta = self._eta(now, done, total)
        if self.path is not None and (finished or now - self._written > FILE_SECONDS):
            self._written = now
            self._write(done=done, total=total, unit=unit, message=message, eta_seconds=eta)
        if not finished and now - self._printed <= PRINT_SECONDS:
            return False
        self._printed = now
        left = "" if eta is None or finished else f"  {clock(eta)} left"
        share = f"{100 * done / total:3.0f}%" if total else ""
        print(f"{self.name}: {share}  {done:g}/{total:g} {unit}{left}  {message}".rstrip(), flush=True)
        return True

    def _eta(self, now: float, done: float, total: float) -> float | None:
        """Remaining seconds at the speed since the start of this phase; None if unknown."""
        then, done_before = self._start
        if done <= done_before or now <= then:
            return None
        return max(total - done, 0) * (now - then) / (done - done_before)

    def _write(self, **report) -> None:
        """Write by rename, so that a reader never sees a partial file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"stage": self.name, **report}))
        part.replace(self.path)


def clock(seconds: float) -> str:
    """75 -> 1:15"""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
