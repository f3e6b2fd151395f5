"""`python -m flows.sweep --set KEY=VALUE,VALUE ...`: runs combinations of parameters, each as a DVC experiment.

They run one after the other in a temporary folder (`dvc exp run --temp`) that leaves the working tree unchanged, and
are then compared with the working tree. `editgan compare`, `dvc exp apply` and `dvc exp show` accept their names.
"""

import itertools
import re
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import yaml
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, temporary_settings

from editgan.config import flat_keys
from editgan.errors import UserError
from editgan.runtime import tracking
from editgan.runtime.dvc import DvcFailed, dvc, output
from editgan.runtime.environment import PROJECT_ROOT, home_project, tracking_uri
from editgan.runtime.locks import held
from flows import processes, serve, stages
from flows.command import run

MAX_NAME = 80  # characters
PAGE_COLUMNS = 160  # of the table in the artifact

Overrides = dict[str, str]  # dotted key of params.yaml -> value, as text


class ExperimentsFailed(RuntimeError):
    """Some experiments of a sweep failed."""


@task(name="experiment", cache_policy=NO_CACHE)
def run_experiment(name: str, overrides: Overrides, root: Path) -> None:
    """Run the pipeline with other parameters. Raises StageFailed: DVC or a stage failed."""
    log, last = get_run_logger(), deque(maxlen=stages.LAST_LINES)
    settings = [part for key, value in overrides.items() for part in ("-S", f"{key}={value}")]
    command = dvc("exp", "run", "--temp", "--name", name, *settings)
    with (
        tracking.start_run(name, root=root, params=overrides, tags={"experiment": name}) as parent,
        stages.gpu_slot(home_project(root), log.info),
    ):
        environment = {"EDITGAN_TRACKING_URI": tracking_uri(root), tracking.PARENT_VARIABLE: parent.run_id or ""}
        with processes.followed(command, root=root, environment=environment) as (process, lines):
            for line in filter(None, lines):
                last.append(line)
                log.info(line)
        if process.returncode:
            said = "\n".join(last)
            raise stages.StageFailed(f"{name}: `dvc exp run` ended with status {process.returncode}:\n{said}")


@flow(name="sweep")
def sweep(combinations: list[Overrides]) -> str:
    """Run every combination, even if others fail; returns their comparison with the working tree.

    Replaces experiments of the same names on this commit.

    Raises:
        UserError: another sweep runs here.
        ExperimentsFailed: the message has the comparison of the others and the errors.
    """
    failed: dict[str, str] = {}
    named = experiment_names(combinations)
    fault = "another sweep runs here (process {pid}, since {started}); stop it with `kill {pid}`, or wait for it"
    with held(PROJECT_ROOT / "work" / "sweep.lock", fault):
        stages.fetch_missing(PROJECT_ROOT, say=get_run_logger().info)
        if again := [name for name in output(PROJECT_ROOT, "exp", "list", "--name-only").split() if name in named]:
            output(PROJECT_ROOT, "exp", "remove", *again)
        for name, overrides in named.items():
            state = run_experiment.with_options(name=name)(name, overrides, PROJECT_ROOT, return_state=True)
            if not state.is_completed():
                failed[name] = str(state.result(raise_on_failure=False))
    page = comparison([name for name in named if name not in failed])
    create_markdown_artifact(f"```\n{page}\n```\n", key="sweep", description=f"{len(named)} experiments")
    if failed:
        total = f"{len(failed)} of {len(named)} experiments failed: {', '.join(failed)}"
        raise ExperimentsFailed("\n\n".join([page, *failed.values(), total]))
    return page


def comparison(names: Sequence[str]) -> str:
    """A table of the experiments and the working tree; if that has no results, the first one is the reference."""
    from rich.console import Console

    from editgan.report.comparison import WORKING_TREE, find_run, show  # imports torch

    if not names:
        return "no experiment to compare"
    has_results = any((PROJECT_ROOT / "outputs").glob("*/metrics.json"))
    runs = [find_run(name, PROJECT_ROOT) for name in ([WORKING_TREE] if has_results else []) + list(names)]
    console = Console(width=PAGE_COLUMNS)
    with console.capture() as text:
        show(runs, console, everything=True)
    return text.get().rstrip()


def grid(settings: Sequence[str]) -> list[Overrides]:
    """Every combination of `KEY=VALUE,VALUE,...`; commas in brackets belong to the value.

    Raises UserError: an entry has another form, or a key is given twice.
    """
    axes: dict[str, list[str]] = {}
    for entry in settings:
        key, given, values = entry.partition("=")
        if not (key and given and values):
            raise UserError(f"--set {entry}: write e.g. --set editing.edit.steps=50,100")
        if key in axes:
            raise UserError(f"--set {key} is given twice; list its values: --set {key}=A,B")
        axes[key] = re.split(r",(?![^\[{]*[\]}])", values)
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def check_keys(combinations: Sequence[Overrides], params: Path) -> None:
    """Raises UserError: a key is not in the params file. DVC would fail in each experiment."""
    known = flat_keys(yaml.safe_load(params.read_text()))
    for key in dict.fromkeys(key for one in combinations for key in one):
        if key not in known:
            near = [name for name in known if name.endswith(f".{key.rpartition('.')[2]}")]
            hint = f"; is it {', '.join(near)}?" if near else ""
            raise UserError(f"{key} is not a parameter of {params.name}{hint}")


def experiment_names(combinations: Sequence[Overrides]) -> dict[str, Overrides]:
    """The combinations by a name that is valid in git and gives the values, e.g. `steps=50,seed=1`."""
    keys = list(dict.fromkeys(key for one in combinations for key in one))
    last = [key.rpartition(".")[2] for key in keys]
    short = {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}
    named: dict[str, Overrides] = {}
    for one in combinations:
        name = ",".join(f"{short[key]}={value}" for key, value in one.items())
        name = re.sub(r"[^\w.=,+-]+|\.(?=\.|lock$|$)|^[.-]", "_", name, flags=re.ASCII)[:MAX_NAME]
        named[name if name not in named else f"{name}-{len(named) + 1}"] = one
    return named


def command(
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE,...",
            help="Values of a parameter; may be repeated, then every combination runs.",
        ),
    ],
) -> None:
    """Run combinations of parameters."""
    combinations = grid(settings)
    check_keys(combinations, PROJECT_ROOT / "params.yaml")
    with temporary_settings({PREFECT_API_URL: serve.prefect_api(PROJECT_ROOT)}):
        page = sweep(combinations)
    print(f"\n{page}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 a combination failed or was refused, 130 interrupted."""
    last_words = "stopped; finished experiments are kept"
    return run(command, arguments, failures=(ExperimentsFailed, stages.StageFailed, DvcFailed), last_words=last_words)


if __name__ == "__main__":
    sys.exit(main())
