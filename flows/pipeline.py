"""`python -m flows.pipeline`: the whole pipeline through Prefect, one task per DVC stage.

The order of the stages is read from dvc.yaml and DVC decides what is stale; Prefect runs it, with retries, a time
limit, progress and artifacts; the stages record themselves in MLflow under one parent run.
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
from editgan.runtime.environment import PROJECT_ROOT, home_project, running_servers, store_uri
from editgan.runtime.graph import ancestors, load_graph
from editgan.runtime.locks import held
from flows import serve, stages
from flows.checkout import prepare_checkout
from flows.command import run
from flows.dry import dry
from flows.side_by_side import side_by_side, threads_each
from flows.summary import headlines, markdown_table, run_record, stage_rows, summary

DEFAULT_PARAMS = "params.yaml"
SHOW_SECONDS = 5.0  # between two updates of a progress artifact
CHECKOUT_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
SCRATCH = "scratch"
BENCHMARK = "benchmark"  # the stage whose figures are compared with the accepted ones
MODEL = "editgan"  # the editor among MLflow's registered models; of a checkout with its name
MAX_TAG = 2000  # characters
STAGE_HOURS = 24.0  # a stage that takes longer is stopped
NO_BASELINE = (
    "there is no accepted baseline ({}) to compare with; `editgan accept` makes one of the benchmark's figures"
)


@task(name="checkout", cache_policy=NO_CACHE)
def checkout(params: str, name: str, scratch: bool, follow: bool, overrides: dict[str, str]) -> Path:
    """Make or update the checkout runs/NAME with the given params file; from scratch it has a DVC cache of its own."""
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
    """Fetch outputs that are missing here from the store in the repository, as far as it has them."""
    stages.fetch_missing(root, say=get_run_logger().info)


def mirrored(action: Callable[[], Any], fault: str) -> Any:
    """What an action on the record of MLflow or Prefect returns; None where it fails, which stops no pipeline."""
    try:
        return action()
    except Exception as error:  # no second attempt, which would take Prefect's client half a minute again
        get_run_logger().warning("%s: %s", fault, error)
        return None


def worth_retrying(task, task_run, state) -> bool:
    """Whether another attempt may help; it goes on from the stage's own saved state."""
    return not isinstance(state.result(raise_on_failure=False), stages.TimedOut | stages.Refused | stages.Halted)


@task(name="stage", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 30], retry_condition_fn=worth_retrying)
def run_stage(stage: str, root: Path, parent_run_id: str | None, force: bool, limit_hours: float, at_a_time: int):
    """Bring one stage up to date with DVC."""
    log = get_run_logger()
    create, update, lost = create_progress_artifact, update_progress_artifact, "progress is shown no longer"
    artifact = mirrored(lambda: create(0.0, key=f"{stage}-progress", description=stage), lost)
    shown = time.monotonic()

    def show(progress: stages.Progress) -> None:
        nonlocal artifact, shown
        if artifact is not None and (time.monotonic() - shown > SHOW_SECONDS or progress.percent == 100):
            shown, said = time.monotonic(), f"{stage}: {progress.text}"
            artifact = mirrored(lambda: update(artifact, progress.percent, description=said), lost)

    environment = threads_each(at_a_time) | ({tracking.PARENT_VARIABLE: parent_run_id} if parent_run_id else {})
    with stages.gpu_slot(home_project(root), log.info):
        result = stages.reproduce(
            stage, root, force=force, limit_seconds=limit_hours * 3600, environment=environment,
            say=log.info, show=show,
        )  # fmt: skip
    show(stages.Progress(100.0, result.outcome))
    if result.outcome != "ran":
        made_by = run_record(root, stage).get("run_id") or adopt(stage, root, parent_run_id) or "that is not recorded"
        log.info("%s: %s, nothing changed; its output is of run %s", stage, result.outcome, made_by)
    return result


def adopt(stage: str, root: Path, parent_run_id: str | None) -> str | None:
    """Make the MLflow run of an output that came out of the store in the repository; returns its id, if it got one."""
    from flows.imported import import_run  # brings torch, which a flow does without as long as it can

    given = {"root": root, "params_path": root / DEFAULT_PARAMS, "parent_run_id": parent_run_id}
    return mirrored(lambda: import_run(stage, **given), f"{stage}: its output has no MLflow run")


@task(name="register", cache_policy=NO_CACHE)
def register(root: Path, name: str, run_id: str) -> None:
    """Register the editor in MLflow if its files have changed."""
    if not (root / "outputs" / "editing" / "vectors").is_dir():
        return
    from editgan.editor.registry import register_editor  # brings torch, which a flow does without as long as it can

    def add() -> None:
        version = register_editor(root, name, run_id)
        news = f"registered as models:/{name}/{version}" if version else "as it was registered before"
        get_run_logger().info("the editor is %s", news)

    mirrored(add, "the editor is not registered in MLflow")


class Regressed(RuntimeError):
    """The benchmark is worse than the accepted one; the message names metrics, sizes and intervals."""


@task(name="decide", cache_policy=NO_CACHE)
def decide(root: Path) -> str | None:
    """What of the benchmark has become worse than the accepted baseline; empty if nothing, None without a baseline."""
    from editgan.config import load_params  # brings torch, which a flow does without as long as it can
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
    get_run_logger().info("%s (%d figures watched)", verdict, len(found))
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
    """Run the pipeline and return its closing page.

    Args:
        params: params file. Another one than params.yaml runs in the checkout runs/NAME.
        name: of the checkout; without one the params file's own name, and none for the default run.
        only: stages to run, all by default.
        force: stages to run even if nothing changed; an empty list: all.
        limit_hours: time limit of each stage.
        scratch: work in a checkout that took nothing over: from the store, the cache or the default run.
        against_baseline: at the end compare the benchmark with the accepted one. On the default params the checkout
            first takes over what the project has released since: dvc.lock and the outputs that it names.
        overrides: values by the dotted key of the params file, e.g. {"editing.edit.steps": "50"}; in a checkout only.
        at_a_time: so many stages that do not need one another run side by side and share the processors; a GPU is
            used by one at a time. Another number of threads rounds otherwise: only 1 gives the same bytes again.

    Raises:
        UserError: bad names or params, another pipeline in the same checkout, or a baseline of other heads.
        StageFailed: a stage failed for good; later stages were not started.
        Regressed: the benchmark is worse than the accepted one.
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
                if only is None and parent.run_id:
                    parent.log_metrics(headlines(root))
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
    """The folder under runs/ to work in: as given, else the params file's own name; None for the default run.

    Raises UserError: the name is no plain folder name.
    """
    if name is None and is_default(params):
        return None
    name = Path(params).stem if name is None else name
    if not CHECKOUT_NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no name for a checkout (--name): use letters, digits, '.', '_' and '-', beginning with a"
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
    """Name of the checkout and the stages to run, as `pipeline` is given them.

    Raises UserError: something cannot be meant; nothing is begun yet.
    """
    name = checkout_name(params, SCRATCH if scratch and name is None else name)
    chosen = choose_stages(list(load_graph(PROJECT_ROOT / "dvc.yaml")), only, force)
    if not (PROJECT_ROOT / params).is_file():
        raise UserError(f"--params {params}: no such params file")
    if at_a_time < 1:
        raise UserError(f"--at-a-time {at_a_time}: at least one stage has to run")
    if not limit_hours > 0:
        raise UserError(f"--limit-hours {limit_hours:g}: give a stage some time")
    if against_baseline and only and BENCHMARK not in only:
        raise UserError("--against-baseline compares what the stage benchmark measures; let it run, too")
    if overrides and name is None:
        raise UserError("--set changes the params of a checkout; name it with --name")
    return name, chosen


def choose_stages(known: Sequence[str], only: Sequence[str] | None, force: Sequence[str] | None) -> list[str]:
    """The stages to run, in the order of dvc.yaml.

    Raises UserError: a name is unknown, or a stage is to be forced that is not to be run.
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
    """Hold the lock of a checkout: `work/pipeline.lock` of the project itself, `runs/NAME.lock` of runs/NAME.

    It lies beside the checkout and not in it, to be held before the checkout is made or brought up to date.

    Raises UserError: another pipeline holds it; names its process and since when.
    """
    path = project / "work" / "pipeline.lock" if name is None else project / "runs" / f"{name}.lock"
    fault = "another pipeline runs in this checkout (process {pid}, since {started}); stop it with `kill {pid}`, wait"
    return held(path, f"{fault} for it, or run in another one with --name", flow_run=flow_run)


def close_flow_run(flow_run: str | None) -> None:
    """Mark the flow run of a pipeline that was killed here as crashed; it would show as running for ever."""
    if flow_run is None:
        return

    def close() -> None:
        with get_client(sync_client=True) as client:
            if not client.read_flow_run(UUID(flow_run)).state.is_final():
                client.set_flow_run_state(UUID(flow_run), Crashed(message="its process was killed"), force=True)
                get_run_logger().info("closed the flow run %s, whose process was killed", flow_run)

    mirrored(close, f"could not close the flow run {flow_run}")  # another server's, or one deleted since


def command(
    params: Annotated[str, typer.Option(help="Params file; another one runs under runs/NAME.")] = DEFAULT_PARAMS,
    name: Annotated[
        str | None, typer.Option(help="Of the checkout under runs/, by default the params file's own.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--stages", metavar="STAGE...", help="Run only these.")] = None,
    force: Annotated[
        list[str] | None, typer.Option(metavar="[STAGE]...", help="Run these, or all, even if nothing changed.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry", help="List what would run, and why; run nothing.")] = False,
    scratch: Annotated[
        bool, typer.Option("--scratch", help=f"Take nothing over: work in runs/{SCRATCH} (or --name).")
    ] = False,
    against_baseline: Annotated[
        bool, typer.Option("--against-baseline", help="Fail if the benchmark is worse than baseline/.")
    ] = False,
    limit_hours: Annotated[float, typer.Option(help="Time limit of each stage.")] = STAGE_HOURS,
    at_a_time: Annotated[
        int, typer.Option(metavar="N", help="Run so many stages side by side where none needs the other.")
    ] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value in the checkout's params; may be repeated."),
    ] = None,
) -> None:
    """Run the pipeline through Prefect."""
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
    failures, last_words = (stages.StageFailed, Regressed), "stopped; run again to go on where it was"
    return run(command, arguments, lists=("--stages", "--force"), failures=failures, last_words=last_words)


if __name__ == "__main__":
    sys.exit(main())
