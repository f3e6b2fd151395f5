"""Judges rows of pictures in several processes, one thread each: on a CPU that is faster than threads."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from editgan.assets.inference import for_inference
from editgan.assets.params import AssetsParams
from editgan.assets.reference import load_ir_se50, load_reference_inception
from editgan.benchmark.scores import Measured, Yardsticks, measure_row
from editgan.judges import load_judges
from editgan.process import die_with_stage, keep_freed_memory

_here: dict = {}  # of a worker: the yardsticks and the truly smiling heads


@dataclass(frozen=True)
class YardstickFiles:
    """Where a process finds the judges."""

    assets: Path
    judges: Path
    params: AssetsParams
    batch: int

    def load(self, device: torch.device | str = "cpu") -> Yardsticks:
        """The judges, and beside them the published reference networks where the user supplied their files."""
        judges = load_judges(self.assets, self.judges, device)
        identity, features = {"mobilefacenet": judges.identity}, {"efflite0": judges.features}
        if self.params.ir_se50 is not None:
            network = load_ir_se50(self.params.ir_se50, self.params.ir_se50_sha256)
            identity["ir_se50"] = for_inference(network).to(device)
        if self.params.reference_inception is not None:
            network = load_reference_inception(self.params.reference_inception, self.params.reference_inception_sha256)
            features["inception"] = for_inference(network).to(device)
        return Yardsticks(
            judges=judges, identity=identity, features=features, batch=self.batch, device=torch.device(device)
        )


def measure_rows(
    rows: dict[str, Tensor],
    smiling: Tensor | None,
    files: YardstickFiles,
    *,
    device: torch.device,
    on_row: Callable[[int], None],
) -> dict[str, Measured]:
    """What the judges say of every row, uint8 [N, 3, H, W], in the order of `rows`, whatever order they finish in."""
    processes = min(processes_on(device), len(rows))
    if processes == 1:
        yardsticks, measured = files.load(device), {}
        for done, (name, pictures) in enumerate(rows.items(), start=1):
            measured[name] = measure_row(pictures, smiling, yardsticks)
            on_row(done)
        return measured
    context = multiprocessing.get_context("spawn")
    shared = None if smiling is None else smiling.numpy()
    with context.Pool(processes, _start, (files, shared)) as pool:
        found = {}
        jobs = [(name, pictures.numpy()) for name, pictures in rows.items()]
        for done, (name, said) in enumerate(pool.imap_unordered(_measure, jobs), start=1):
            found[name] = said
            on_row(done)
    return {
        name: Measured(
            pictures=pictures,
            smile=torch.from_numpy(found[name]["smile"]),
            identity={network: torch.from_numpy(values) for network, values in found[name]["identity"].items()},
            features={network: torch.from_numpy(values) for network, values in found[name]["features"].items()},
            lpips_alex=None if smiling is None else torch.from_numpy(found[name]["lpips_alex"]),
        )
        for name, pictures in rows.items()
    }


def processes_on(device: torch.device) -> int:
    """One a CPU core; a GPU is for one process."""
    return len(os.sched_getaffinity(0)) if device.type == "cpu" else 1


def _start(files: YardstickFiles, smiling: np.ndarray | None) -> None:
    """Once a worker."""
    die_with_stage()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    _here.update(yardsticks=files.load(), smiling=None if smiling is None else torch.from_numpy(smiling))


def _measure(job: tuple[str, np.ndarray]) -> tuple[str, dict]:
    """A row, as arrays: tensors would travel through shared memory, which not every machine has."""
    name, pictures = job
    said = measure_row(torch.from_numpy(pictures), _here["smiling"], _here["yardsticks"])
    return name, {
        "smile": said.smile.numpy(),
        "identity": {network: values.numpy() for network, values in said.identity.items()},
        "features": {network: values.numpy() for network, values in said.features.items()},
        "lpips_alex": None if said.lpips_alex is None else said.lpips_alex.numpy(),
    }
