"""Stages that do not need one another run side by side, up to a limit, each as a Prefect task in a thread."""

import os
import queue
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prefect.futures import PrefectFuture


def side_by_side(needs: Mapping[str, set[str]], submit: Callable[[str], PrefectFuture], limit: int) -> Iterator[Any]:
    """Start each stage as soon as those that it needs are done; yields results as they come.

    Where one fails no other is started, and those that run are waited for.

    Args:
        needs: the stages in an order in which they can run, with the others that must be done before each.
        submit: starts a stage.
        limit: so many run at a time at the most.

    Raises Exception: what the first failed stage raised.
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
    """Environment that divides the processors among stages that run side by side; nothing for one at a time."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // limit))} if limit > 1 else {}
