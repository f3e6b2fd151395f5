"""Runs independent stages in parallel, up to a limit, each as a Prefect task in a thread."""

import os
import queue
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prefect.futures import PrefectFuture


def side_by_side(needs: Mapping[str, set[str]], submit: Callable[[str], PrefectFuture], limit: int) -> Iterator[Any]:
    """Start each stage when those that it needs have finished; yields the results in the order in which they come.

    After a failure no stage is started, and the running ones are awaited.

    Args:
        needs: for each stage, the stages that must finish before it; in an order in which they can run.
        submit: starts a stage.
        limit: most stages that run at a time.

    Raises Exception: the error of the stage that failed first.
    """
    waiting, running, failure = list(needs), {}, None
    ended: queue.Queue[str] = queue.Queue()
    while running or (waiting and failure is None):
        for stage in list(waiting):
            if failure is None and len(running) < limit and not needs[stage] & {*waiting, *running}:
                waiting.remove(stage)
                running[stage] = submit(stage)
                running[stage].add_done_callback(lambda _, name=stage: ended.put(name))
        try:
            result = running.pop(ended.get()).result()
        except Exception as error:
            failure = failure or error
        else:
            yield result
    if failure is not None:
        raise failure


def threads_each(limit: int) -> dict[str, str]:
    """Environment that divides the processors among parallel stages; {} for one at a time."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // limit))} if limit > 1 else {}
