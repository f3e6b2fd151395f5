"""`python -m flows.pipeline`: runs the pipeline with Prefect, one task per DVC stage.

dvc.yaml defines the order of the stages, and DVC decides what is stale. Prefect adds retries, a time limit, progress
and artifacts. The MLflow runs of the stages have one parent run.
"""

import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.context import get_run_context
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed
from prefect.task_runners import ThreadPoolTaskRunner

from editgan.config import check_needs, checked, read_params, whole_class
from editgan.errors import UserError
from editgan.runtime import tracking
from editgan.runtime.dvc import DvcFailed
from editgan.runtime.environment import PROJECT_ROOT, running_servers, store_uri, tracking_uri
from editgan.runtime.graph import load_graph
from editgan.runtime.locks import held, held_briefly
from editgan.runtime.surroundings import refuse
from flows import serve, stages
from flows.checkout import override_in, prepare_checkout
from flows.command import run
from flows.dry import dry
from flows.summary import benchmark_note, headlines, run_record, stage_rows, summary
from flows.tasks import PARAMS, checkout, decide, mirrored, register, restore, run_stages

CHECKOUT_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
SCRATCH = "scratch"
BENCHMARK = "benchmark"  # the stage whose metrics are compared with the baseline
MODEL = "editgan"  # the editor's name among MLflow's registered models; in a checkout: editgan-NAME
MAX_TAG = 2000  # characters
STAGE_HOURS = 24.0  # a stage that takes longer is stopped
ANOTHER = (
    "another pipeline runs in this checkout (process {pid}, since {started}); stop it with `kill {pid}`, wait for it,"
    " or run in another one with --name"
)


class Regressed(RuntimeError):
    """The benchmark is worse than the baseline; the message gives metrics, differences and intervals."""


@flow(name="pipeline", validate_parameters=True)
def pipeline(
    params: str = PARAMS,
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
        StageFailed, DvcFailed: a stage failed in its last attempt; stages that need it were not started.
        Regressed: the benchmark is worse than the accepted baseline.
    """
    start = time.monotonic()
    name, chosen = planned(params, name, only, force, limit_hours, scratch, against_baseline, at_a_time, overrides)
    forced = chosen if force == [] else force or ()
    follow = against_baseline and is_default(params) and not scratch
    stages.HALT.clear()
    with sole_pipeline(PROJECT_ROOT, name, str(get_run_context().flow_run.id)) as left_behind:
        close_flow_run(left_behind.get("flow_run"))
        root = PROJECT_ROOT if name is None else checkout(params, name, scratch, follow, overrides or {})
        if not scratch:
            restore(root)
        tags = {"params_file": params, "checkout": name or "default"}
        with (
            tracking.start_run("pipeline", root=root, tags=tags) as parent,
            ThreadPoolTaskRunner(max_workers=at_a_time) as runner,
        ):
            results, worse = [], None
            try:
                threads = max(1, (os.cpu_count() or 1) // at_a_time) if at_a_time > 1 else None
                given = {"root": root, "parent_run_id": parent.run_id, "limit_hours": limit_hours, "threads": threads}
                parameters = {stage: given | {"stage": stage, "force": stage in forced} for stage in chosen}
                for result in run_stages(parameters, None if at_a_time == 1 else runner):
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


def check_params(path: Path, overrides: dict[str, str], stages: Sequence[str]) -> None:
    """Raises UserError: a value is out of range, or does not suffice for one of the stages that will run."""
    content = read_params(path, PROJECT_ROOT / PARAMS)
    for key, value in overrides.items():
        override_in(content, key, value, path.name)
    check_needs(checked(whole_class(), content, path), stages, path)


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
    return (PROJECT_ROOT / params).resolve() == PROJECT_ROOT / PARAMS


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
    """Hold the lock of a checkout. Raises UserError: another pipeline holds it; gives its process id and start."""
    return held(lock_of(project, name), ANOTHER, flow_run=flow_run)


def lock_of(project: Path, name: str | None) -> Path:
    """work/pipeline.lock for the project, runs/NAME.lock for runs/NAME.

    It is outside of the checkout, because it is taken before the checkout is created or updated.
    """
    return project / "work" / "pipeline.lock" if name is None else project / "runs" / f"{name}.lock"


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
    params: Annotated[str, typer.Option(help="Params file; other files run in runs/NAME.")] = PARAMS,
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
    refuse(PROJECT_ROOT, pipeline=True)
    if only == [""]:
        raise UserError("--stages: name at least one stage")
    only = [stage for stage in only or () if stage] or None
    force = [stage for stage in force if stage] if force else None
    if wrong := [text for text in settings or () if "=" not in text]:
        raise UserError(f"--set {wrong[0]}: write KEY=VALUE")
    overrides = dict(text.split("=", 1) for text in settings or ())
    options = (params, name, only, force, limit_hours, scratch, against_baseline, at_a_time, overrides)
    folder, chosen = planned(*options)
    check_params(PROJECT_ROOT / params, overrides, chosen)
    with held_briefly(lock_of(PROJECT_ROOT, folder), ANOTHER):  # the flow refuses it too, but after a server's start
        root = PROJECT_ROOT if folder is None else PROJECT_ROOT / "runs" / folder
        if dry_run and folder and root.exists():  # what a run does first
            cache = root / ".dvc" / "cache" if scratch else None
            prepare_checkout(PROJECT_ROOT, root, Path(params), cache=cache, results=not scratch, overrides=overrides)
    if dry_run:
        print(dry(root, chosen, force), flush=True)
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
