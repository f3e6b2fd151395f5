"""`python -m flows.pipeline`: runs the pipeline with Prefect, one task per DVC stage.

dvc.yaml defines the order of the stages, and DVC decides what is stale. Prefect adds retries, a time limit, progress
and artifacts. The MLflow runs of the stages have one parent run.
"""

import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import get_run_context
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed

from editgan.errors import UserError
from editgan.runtime import tracking
from editgan.runtime.dvc import DvcFailed
from editgan.runtime.environment import PROJECT_ROOT, home_project, running_servers, store_uri, tracking_uri
from editgan.runtime.graph import ancestors, load_graph
from editgan.runtime.locks import held
from flows import serve, stages
from flows.checkout import prepare_checkout
from flows.command import run
from flows.dry import dry
from flows.side_by_side import side_by_side, threads_each
from flows.summary import benchmark_note, headlines, markdown_table, run_record, stage_rows, summary

DEFAULT_PARAMS = "params.yaml"
SHOW_SECONDS = 5.0  # between two updates of a progress artifact
CHECKOUT_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
SCRATCH = "scratch"
BENCHMARK = "benchmark"  # the stage whose metrics are compared with the baseline
MODEL = "editgan"  # the editor's name among MLflow's registered models; in a checkout: editgan-NAME
MAX_TAG = 2000  # characters
STAGE_HOURS = 24.0  # a stage that takes longer is stopped
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
def run_stage(stage: str, root: Path, parent_run_id: str | None, force: bool, limit_hours: float, at_a_time: int):
    """Bring one stage up to date with DVC."""
    log = get_run_logger()
    lost, shown = "progress is no longer shown", time.monotonic()
    artifact = mirrored(lambda: create_progress_artifact(0.0, key=f"{stage}-progress", description=stage), lost)

    def show(progress: stages.Progress) -> None:
        nonlocal artifact, shown
        if artifact is not None and (time.monotonic() - shown > SHOW_SECONDS or progress.percent == 100):
            shown, said = time.monotonic(), f"{stage}: {progress.text}"
            artifact = mirrored(lambda: update_progress_artifact(artifact, progress.percent, description=said), lost)

    environment = threads_each(at_a_time) | ({tracking.PARENT_VARIABLE: parent_run_id} if parent_run_id else {})
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


def adopt(stage: str, root: Path, parent_run_id: str | None) -> str | None:
    """Create the MLflow run of an output from the store in the repository; returns its id or None."""
    from flows.imported import import_run  # imports torch

    given = {"root": root, "params_path": root / DEFAULT_PARAMS, "parent_run_id": parent_run_id}
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


class Regressed(RuntimeError):
    """The benchmark is worse than the baseline; the message gives metrics, differences and intervals."""


@task(name="decide", cache_policy=NO_CACHE)
def decide(root: Path) -> str | None:
    """What is worse in the benchmark than in the accepted baseline; "" if nothing, None without a baseline."""
    from editgan.config import load_params  # imports torch
    from editgan.report.nightly import BASELINE, judged, load_tolerances

    if not any((root / BASELINE).glob("*")):
        page = NO_BASELINE.format(BASELINE)
        get_run_logger().warning(page)
        create_markdown_artifact(page, key="regression", description="no baseline")
        return None
    found = judged(root, load_tolerances(root), seed=load_params(root / DEFAULT_PARAMS).seed)
    worse = "; ".join(str(change) for change in found if change.regressed)
    verdict = f"worse than the accepted baseline: {worse}" if worse else "nothing is worse than the accepted baseline"
    table = markdown_table([change.cells() for change in found if change.regressed or change.difference])
    create_markdown_artifact(f"{verdict}\n\n{table}\n", key="regression", description=verdict.partition(":")[0])
    get_run_logger().info("%s (%d metrics watched)", verdict, len(found))
    return worse


@flow(name="pipeline", validate_parameters=True)
def pipeline(
    params: str = DEFAULT_PARAMS,
    name: str | None = None,
    only: list[str] | None = None,
    force: list[str] | None = None,
    limit_hours: float = STAGE_HOURS,
    scratch: bool = False,
    against_baseline: bool = False,
    at_a_time: int = 1,
    overrides: dict[str, str] | None = None,
) -> str:
    """Run the pipeline and return its summary in Markdown.

    Args:
        params: params file. Other files than params.yaml run in the checkout runs/NAME.
        name: name of the checkout; None: that of the params file, or no checkout for params.yaml.
        only: stages to run; None: all.
        force: stages to run even if nothing changed; []: all.
        limit_hours: time limit of each stage.
        scratch: use a checkout that gets nothing from the store, the cache and the default run.
        against_baseline: at the end compare the benchmark with the accepted baseline. With params.yaml, first update
            the checkout to the released results: the project's dvc.lock and its outputs.
        overrides: values by dotted key of the params file, e.g. {"editing.edit.steps": "50"}; only in a checkout.
        at_a_time: number of independent stages that run in parallel and share the processors; one at a time uses the
            GPU. Another number of threads rounds differently, so only 1 gives the same bytes again.

    Raises:
        UserError: bad names or params, another pipeline runs in this checkout, or the baseline has other heads.
        StageFailed, DvcFailed: a stage failed in its last attempt; later stages were not started.
        Regressed: the benchmark is worse than the accepted baseline.
    """
    start = time.monotonic()
    name, chosen = planned(params, name, only, force, limit_hours, scratch, against_baseline, at_a_time, overrides)
    forced = chosen if force == [] else force or ()
    graph = load_graph(PROJECT_ROOT / "dvc.yaml")
    needs = {stage: ancestors(graph, stage) for stage in chosen}
    follow = against_baseline and is_default(params) and not scratch
    stages.HALT.clear()
    with sole_pipeline(PROJECT_ROOT, name, str(get_run_context().flow_run.id)) as left_behind:
        close_flow_run(left_behind.get("flow_run"))
        root = PROJECT_ROOT if name is None else checkout(params, name, scratch, follow, overrides or {})
        if not scratch:
            restore(root)
        tags = {"params_file": params, "checkout": name or "default"}
        with tracking.start_run("pipeline", root=root, tags=tags) as parent:
            results, worse = [], None
            try:
                given = {one: (one, root, parent.run_id, one in forced, limit_hours, at_a_time) for one in chosen}
                tasks = {stage: run_stage.with_options(name=stage) for stage in chosen}
                if at_a_time > 1:
                    done = side_by_side(needs, lambda stage: tasks[stage].submit(*given[stage]), at_a_time)
                else:
                    done = (tasks[stage](*given[stage]) for stage in chosen)
                for result in done:
                    results.append(result)
                    made_by = run_record(root, result.stage).get("run_id", "")
                    parent.set_tag(f"stage.{result.stage}.run_id", made_by)
                    parent.set_tag(f"stage.{result.stage}.outcome", result.outcome)
                if parent.run_id and (only is None or BENCHMARK in only):
                    parent.log_metrics(headlines(root))
                if parent.run_id and BENCHMARK in chosen:
                    note = benchmark_note(root, tracking_uri(PROJECT_ROOT), parent.experiment_id)
                    parent.set_tag("mlflow.note.content", note)  # shown as the run's description
                if only is None and parent.run_id:
                    register(root, MODEL if name is None else f"{MODEL}-{name}", parent.run_id)
                if against_baseline:
                    worse = decide(root)
                    parent.set_tag("regression", "no baseline" if worse is None else (worse or "none")[:MAX_TAG])
            finally:
                stages.HALT.set()
                minutes, known = (time.monotonic() - start) / 60, running_servers(PROJECT_ROOT)
                page = summary(root, results, minutes, known, store_uri(root), parent.experiment_id)
                parent.log_text(page, "summary.md")
            whose = name or "the default"
            create_table_artifact(stage_rows(root, results), key="stages", description=f"stages of {whose}")
            create_markdown_artifact(page, key="summary", description=f"summary of {whose}")
            if worse:
                raise Regressed(f"the benchmark is worse than the accepted baseline: {worse}")
    return page


def checkout_name(params: str, name: str | None) -> str | None:
    """Name of the folder in runs/: `name`, else that of the params file; None for the default run.

    Raises UserError: not a plain folder name.
    """
    if name is None and is_default(params):
        return None
    name = Path(params).stem if name is None else name
    if not CHECKOUT_NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is not a name for a checkout (--name): use letters, digits, '.', '_' and '-', and start with a"
            " letter or digit"
        )
    return name


def is_default(params: str) -> bool:
    return (PROJECT_ROOT / params).resolve() == PROJECT_ROOT / DEFAULT_PARAMS


def planned(
    params: str,
    name: str | None,
    only: Sequence[str] | None,
    force: Sequence[str] | None,
    limit_hours: float,
    scratch: bool,
    against_baseline: bool,
    at_a_time: int,
    overrides: dict[str, str] | None,
) -> tuple[str | None, list[str]]:
    """Name of the checkout and the stages to run, from the arguments of `pipeline`.

    Raises UserError: an argument is invalid.
    """
    name = checkout_name(params, SCRATCH if scratch and name is None else name)
    chosen = choose_stages(list(load_graph(PROJECT_ROOT / "dvc.yaml")), only, force)
    if not (PROJECT_ROOT / params).is_file():
        raise UserError(f"--params {params}: no such params file")
    if at_a_time < 1:
        raise UserError(f"--at-a-time {at_a_time}: run at least one stage at a time")
    if not limit_hours > 0:
        raise UserError(f"--limit-hours {limit_hours:g}: the limit must be positive")
    if against_baseline and only and BENCHMARK not in only:
        raise UserError("--against-baseline needs the metrics of stage benchmark; add it to --stages")
    if overrides and name is None:
        raise UserError("--set changes the params of a checkout; give its name with --name")
    return name, chosen


def choose_stages(known: Sequence[str], only: Sequence[str] | None, force: Sequence[str] | None) -> list[str]:
    """The stages to run, in the order of dvc.yaml.

    Raises UserError: an unknown name, or a stage in `force` that is not chosen.
    """
    for stage in [*(only or ()), *(force or ())]:
        if stage not in known:
            raise UserError(f"unknown stage {stage!r}; the stages are {', '.join(known)}")
    chosen = [stage for stage in known if not only or stage in only]
    for stage in force or ():
        if stage not in chosen:
            raise UserError(f"--force {stage}: this stage is not among those to run ({', '.join(chosen)})")
    return chosen


def sole_pipeline(project: Path, name: str | None, flow_run: str) -> AbstractContextManager[dict[str, str]]:
    """Hold the lock of a checkout: work/pipeline.lock for the project, runs/NAME.lock for runs/NAME.

    The lock is outside of the checkout, because it is taken before the checkout is created or updated.

    Raises UserError: another pipeline holds it; gives its process id and start.
    """
    path = project / "work" / "pipeline.lock" if name is None else project / "runs" / f"{name}.lock"
    fault = "another pipeline runs in this checkout (process {pid}, since {started}); stop it with `kill {pid}`, wait"
    return held(path, f"{fault} for it, or run in another one with --name", flow_run=flow_run)


def close_flow_run(flow_run: str | None) -> None:
    """Mark the flow run of a killed pipeline as crashed; otherwise Prefect shows it as running forever."""
    if flow_run is None:
        return

    def close() -> None:
        with get_client(sync_client=True) as client:
            if not client.read_flow_run(UUID(flow_run)).state.is_final():
                client.set_flow_run_state(UUID(flow_run), Crashed(message="its process was killed"), force=True)
                get_run_logger().info("closed the flow run %s, whose process was killed", flow_run)

    mirrored(close, f"could not close the flow run {flow_run}")  # it belongs to another server, or was deleted


def command(
    params: Annotated[str, typer.Option(help="Params file; other files run in runs/NAME.")] = DEFAULT_PARAMS,
    name: Annotated[
        str | None, typer.Option(help="Name of the checkout in runs/; default: that of the params file.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--stages", metavar="STAGE...", help="Run only these stages.")
    ] = None,
    force: Annotated[
        list[str] | None, typer.Option(metavar="[STAGE]...", help="Run these stages, or all, even if nothing changed.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry", help="Only list what would run, and why.")] = False,
    scratch: Annotated[
        bool, typer.Option("--scratch", help=f"Start without any results, in runs/{SCRATCH} (or --name).")
    ] = False,
    against_baseline: Annotated[
        bool, typer.Option("--against-baseline", help="Fail if the benchmark is worse than baseline/.")
    ] = False,
    limit_hours: Annotated[float, typer.Option(help="Time limit of each stage.")] = STAGE_HOURS,
    at_a_time: Annotated[int, typer.Option(metavar="N", help="Number of independent stages that run in parallel.")] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value in the checkout's params; may be repeated."),
    ] = None,
) -> None:
    """Run the pipeline with Prefect."""
    if only == [""]:
        raise UserError("--stages: name at least one stage")
    only = [stage for stage in only or () if stage] or None
    force = [stage for stage in force if stage] if force else None
    if wrong := [text for text in settings or () if "=" not in text]:
        raise UserError(f"--set {wrong[0]}: write KEY=VALUE")
    overrides = dict(text.split("=", 1) for text in settings or ())
    options = (params, name, only, force, limit_hours, scratch, against_baseline, at_a_time, overrides)
    folder, chosen = planned(*options)
    if dry_run:
        print(dry(PROJECT_ROOT / "runs" / folder if folder else PROJECT_ROOT, chosen, force), flush=True)
        return
    with temporary_settings({PREFECT_API_URL: serve.prefect_api(PROJECT_ROOT)}):
        page = pipeline(*options)
    print(f"\n{page}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 failed, 130 interrupted."""
    failures, last_words = (stages.StageFailed, DvcFailed, Regressed), "stopped; run again to go on from the last state"
    return run(command, arguments, lists=("--stages", "--force"), failures=failures, last_words=last_words)


if __name__ == "__main__":
    sys.exit(main())
