"""The tasks of the pipeline in Prefect: checkout, one task per DVC stage, registration, regression check."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from editgan.config import load_params
from editgan.runtime import tracking
from editgan.runtime.environment import PROJECT_ROOT, home_project
from editgan.runtime.graph import ancestors, load_graph
from flows import stages
from flows.checkout import prepare_checkout
from flows.summary import markdown_table, run_record

PARAMS = "params.yaml"
SHOW_SECONDS = 5.0  # between two updates of a progress artifact
NO_BASELINE = "there is no accepted baseline ({}); `editgan accept` makes one of the benchmark's metrics"


@task(name="checkout", cache_policy=NO_CACHE)
def checkout(params: str, name: str, scratch: bool, follow: bool, overrides: dict[str, str]) -> Path:
    """Create or update the checkout runs/NAME with a params file. With `scratch` it has its own DVC cache."""
    folder = PROJECT_ROOT / "runs" / name
    cache = folder / ".dvc" / "cache" if scratch else None
    begun = folder.exists()
    prepare_checkout(
        PROJECT_ROOT, folder, Path(params), cache=cache, results=not scratch, follow=follow, overrides=overrides
    )
    if follow and begun:
        stages.take_over(folder)
    get_run_logger().info("working in %s", folder)
    return folder


@task(name="restore", cache_policy=NO_CACHE, retries=1)
def restore(root: Path) -> None:
    """Fetch missing outputs from the store in the repository, as far as it has them."""
    stages.fetch_missing(root, say=get_run_logger().info)


def mirrored(action: Callable[[], Any], fault: str) -> Any:
    """Result of an action on the record of MLflow or Prefect; None if it fails, because the pipeline goes on."""
    try:
        return action()
    except Exception as error:  # not repeated: the clients have already retried for half a minute
        get_run_logger().warning("%s: %s", fault, error)
        return None


def worth_retrying(task, task_run, state) -> bool:
    """Whether another attempt may succeed; it resumes from the stage's state."""
    return not isinstance(state.result(raise_on_failure=False), stages.TimedOut | stages.Refused | stages.Halted)


@task(name="stage", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 30], retry_condition_fn=worth_retrying)
def run_stage(
    stage: str, root: Path, parent_run_id: str | None, force: bool, limit_hours: float, threads: int | None = None
) -> stages.StageResult:
    """Bring one stage up to date with DVC. `threads`: None for as many as there are processors."""
    log = get_run_logger()
    lost, shown = "progress is no longer shown", time.monotonic()
    artifact = mirrored(lambda: create_progress_artifact(0.0, key=f"{stage}-progress", description=stage), lost)

    def show(progress: stages.Progress) -> None:
        nonlocal artifact, shown
        if artifact is not None and (time.monotonic() - shown > SHOW_SECONDS or progress.percent == 100):
            shown, said = time.monotonic(), f"{stage}: {progress.text}"
            artifact = mirrored(lambda: update_progress_artifact(artifact, progress.percent, description=said), lost)

    environment = {tracking.PARENT_VARIABLE: parent_run_id} if parent_run_id else {}
    environment |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    with stages.gpu_slot(home_project(root), log.info):
        result = stages.reproduce(
            stage, root, force=force, limit_seconds=limit_hours * 3600, environment=environment,
            say=log.info, show=show,
        )  # fmt: skip
    show(stages.Progress(100.0, result.outcome))
    if result.outcome != "ran":
        made_by = run_record(root, stage).get("run_id") or adopt(stage, root, parent_run_id) or "(not recorded)"
        log.info("%s: %s, nothing changed; its output is from run %s", stage, result.outcome, made_by)
    return result


def run_stages(parameters: dict[str, dict[str, Any]], runner: ThreadPoolTaskRunner | None) -> Iterator[Any]:
    """Run the stages; yields their results in the order in which they come.

    After a failure in parallel runs, only the stages that need the failed one are not started.

    Args:
        parameters: of the task of each stage, in an order in which the stages can run.
        runner: runs independent stages in parallel; None: run one after the other in this thread.

    Raises Exception: the error of the stage that failed first.
    """
    tasks = {stage: run_stage.with_options(name=stage) for stage in parameters}
    if runner is None:
        yield from (tasks[stage](**given) for stage, given in parameters.items())
        return
    graph, futures, failure = load_graph(PROJECT_ROOT / "dvc.yaml"), {}, None
    for stage, given in parameters.items():
        needs = [futures[one] for one in ancestors(graph, stage) if one in futures]
        futures[stage] = runner.submit(tasks[stage], given, wait_for=needs)
    for future in as_completed([*futures.values()]):
        try:
            result = future.result()
        except Exception as error:
            failure = failure or error
        else:
            yield result
    if failure is not None:
        raise failure


def adopt(stage: str, root: Path, parent_run_id: str | None) -> str | None:
    """Create the MLflow run of an output from the store in the repository; returns its id or None."""
    from flows.imported import import_run  # imports torch

    given = {"root": root, "params_path": root / PARAMS, "parent_run_id": parent_run_id}
    return mirrored(lambda: import_run(stage, **given), f"{stage}: no MLflow run could be created for its output")


@task(name="register", cache_policy=NO_CACHE)
def register(root: Path, name: str, run_id: str) -> None:
    """Register the editor in MLflow if its files have changed."""
    if not (root / "outputs" / "editing" / "vectors").is_dir():
        return
    from editgan.editor.registry import register_editor  # imports torch

    def add() -> None:
        version = register_editor(root, name, run_id)
        news = f"registered as models:/{name}/{version}" if version else "unchanged since its last registration"
        get_run_logger().info("the editor is %s", news)

    mirrored(add, "the editor is not registered in MLflow")


@task(name="decide", cache_policy=NO_CACHE)
def decide(root: Path) -> str | None:
    """What is worse in the benchmark than in the accepted baseline; "" if nothing, None without a baseline."""
    from editgan.report.nightly import BASELINE, judged, load_tolerances  # imports torch

    if not any((root / BASELINE).glob("*")):
        page = NO_BASELINE.format(BASELINE)
        get_run_logger().warning(page)
        create_markdown_artifact(page, key="regression", description="no baseline")
        return None
    found = judged(root, load_tolerances(root), seed=load_params(root / PARAMS).seed)
    worse = "; ".join(str(change) for change in found if change.regressed)
    verdict = f"worse than the accepted baseline: {worse}" if worse else "nothing is worse than the accepted baseline"
    table = markdown_table([change.cells() for change in found if change.regressed or change.difference])
    create_markdown_artifact(f"{verdict}\n\n{table}\n", key="regression", description=verdict.partition(":")[0])
    get_run_logger().info("%s (%d metrics watched)", verdict, len(found))
    return worse
