"""Runs a stage: `python -m editgan STAGE`."""

import importlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from editgan.config import Params, RuntimeParams, check_needs, load_params, package_of, stage_params
from editgan.errors import UserError
from editgan.runtime import tracking
from editgan.runtime.graph import content_hash, input_hash, load_graph
from editgan.runtime.process import exclusive
from editgan.runtime.tracking import Run
from editgan.training import device_named
from editgan.weights import write_json

FINISHED_FILE = "finished"  # marks the state of a run that has nothing left to do


@dataclass(frozen=True)
class StageContext:
    """Everything that `run(context)` of a stage needs. Stages know nothing of DVC, Prefect and MLflow."""

    name: str
    params: Params
    root: Path  # the project root, which is also the working directory
    out: Path  # outputs/NAME, exists
    work: Path  # work/NAME/HASH, exists and is locked; resumable state
    run: Run
    device: torch.device

    def input(self, stage: str) -> Path:
        """The output folder of an earlier stage."""
        return self.root / "outputs" / stage


def run_stage(name: str, *, root: Path, params_path: Path) -> None:
    """Run one stage; resumes an interrupted attempt.

    The folder of the state is named by the hash of all inputs, so an attempt resumes only one with the same parameters
    and inputs. The MLflow run ends as FINISHED, FAILED or KILLED.

    Raises UserError: unknown stage, bad params, a missing input, or another process runs this stage.
    """
    graph = load_graph(root / "dvc.yaml")
    if name not in graph:
        raise UserError(f"unknown stage {name!r}; the stages are {', '.join(graph)}")
    params = load_params(params_path)
    check_needs(params, [name], params_path)
    device = select_device(params.runtime)
    with exclusive(root / "work" / name):
        inputs = input_hash(graph[name], root, params.model_dump(mode="json"))
        clear_finished(root, name, inputs)
        work = root / "work" / name / inputs
        work.mkdir(parents=True, exist_ok=True)
        out = root / "outputs" / name
        out.mkdir(parents=True, exist_ok=True)
        tags = {"stage": name, "input_hash": inputs, "params_file": params_path.name}
        with tracking.start_run(name, root=root, work=work, params=stage_params(name, params), tags=tags) as run:
            if (work / FINISHED_FILE).exists():
                left = f"{name}: found the state of a finished run in {work}; delete that folder to train again"
                print(left, flush=True)
            context = StageContext(name=name, params=params, root=root, out=out, work=work, run=run, device=device)
            stage_module(name).run(context)
            metrics = out / "metrics.json"
            record = {"run_id": run.run_id, "input_hash": inputs, "seconds": round(run.seconds, 1)}
            write_json(out / "run.json", record | {"metrics": content_hash(metrics) if metrics.exists() else None})
            for left in (metrics, out / "curves"):
                if left.exists():
                    run.log_file(left)
            (work / FINISHED_FILE).touch()


def clear_finished(root: Path, name: str, inputs: str) -> None:
    """Delete the states of finished runs of a stage after DVC has recorded their outputs.

    Before that (DVC was killed, or the disk was full), a new attempt uses the state and has nothing left to train.
    """
    lock = root / "dvc.lock"
    for mark in (root / "work" / name).glob(f"*/{FINISHED_FILE}"):
        recorded = lock.exists() and lock.stat().st_mtime > mark.stat().st_mtime
        if recorded or mark.parent.name != inputs:
            shutil.rmtree(mark.parent)


def stage_module(name: str):
    """The module with the `run(context)` of a stage."""
    return importlib.import_module(f"{package_of(name)}.stage")


def select_device(runtime: RuntimeParams) -> torch.device:
    """The device to compute on. Also sets the number of CPU threads to the cores of this process.

    Raises UserError: CUDA is requested but not available.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)  # denormal numbers (below 1e-38) are slow
    try:
        return device_named(runtime.device)
    except UserError as error:
        raise UserError(f"runtime.device: {error}") from None
