"""Stages that do not need one another run side by side, up to a limit, each as a Prefect task in a thread."""

import os
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prefect.futures import PrefectFuture


def side_by_side(
    chosen: Sequence[str], needs: Mapping[str, set[str]], submit: Callable[[str], PrefectFuture], limit: int
) -> Iterator[tuple[str, Any]]:
    """Start each stage as soon as those that it needs are done; yields names and results as they come.

    Where one fails no other is started, and those that run are waited for.

    Args:
        chosen: stages in an order in which they can run.
        needs: for each, the others that must be done before it.
        submit: starts a stage.
        limit: so many run at a time at the most.

    Raises:
        Exception: what the first failed stage raised.
    """
    waiting, running = list(chosen), {}
    ended: queue.Queue[str] = queue.Queue()
    failure = None
    while running or (waiting and failure is None):
        for stage in list(waiting):
            if failure is None and len(running) < limit and not needs[stage] & {*waiting, *running}:
                waiting.remove(stage)
                running[stage] = submit(stage)
                running[stage].add_done_callback(lambda _, name=stage: ended.put(name))
        stage = ended.get()
        try:
            result = running.pop(stage).result()
        except Exception as error:
            failure = failure or error
        else:
            yield stage, result
    if failure is not None:
        raise failure


def threads_each(limit: int) -> dict[str, str]:
    """Environment that divides the processors among stages that run side by side; nothing for one at a time."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // limit))} if limit > 1 else {}
