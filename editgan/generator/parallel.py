"""Data-parallel training in several processes: one per CPU core, or one per GPU.

Rank 0 is the process of the stage. Only rank 0 writes files. The other ranks run the same loop on other images. On an
idle CPU, two processes train about as fast as two threads of one process; when another program uses a core, they are
much faster (docs/results/generator.md, "Speed").
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from editgan.errors import UserError
from editgan.runtime.process import die_with_stage, keep_freed_memory

TIMEOUT = timedelta(minutes=30)  # a rank waits this long for the others; rank 0 alone computes the snapshots


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the number of ranks. Rank r takes rows r, r + world, ... of every batch.

    With this split, the groups of the minibatch standard deviation are the same as for an undivided batch.
    """

    rank: int = 0
    world: int = 1

    def rows(self, batch: Tensor) -> Tensor:
        """This rank's part of a whole batch: [N, ...] -> [N / world, ...]."""
        return batch[self.rank :: self.world]

    def average_gradients(self, *modules: nn.Module) -> None:
        """Replace every gradient by its mean over the ranks, in one all-reduce for all modules."""
        if self.world == 1:
            return
        gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Named numbers averaged over the ranks; the names must be the same on all ranks."""
        if self.world == 1:
            return dict(values)
        device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
        total = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return dict(zip(sorted(values), (total / self.world).tolist(), strict=True))


def choose_processes(wanted: int | str, *, device: torch.device, batch: int, group: int) -> int:
    """Number of training processes: the given number, or with "auto" the number of cores or GPUs, if possible.

    Each process takes an equal part of the batch, a multiple of `group` (of the minibatch standard deviation).

    Raises:
        UserError: the batch cannot be split into the given number of parts.
    """
    group = min(group, batch)
    possible = [n for n in range(1, batch // group + 1) if batch % (n * group) == 0]
    if wanted != "auto":
        if wanted not in possible:
            raise UserError(
                f"runtime.processes {wanted}: batch {batch} cannot be split into that many equal parts, each a"
                f" multiple of {group} (generator.mbstd_group); possible: {', '.join(map(str, possible))}"
            )
        return int(wanted)
    available = torch.cuda.device_count() if device.type == "cuda" else len(os.sched_getaffinity(0))
    return max(n for n in possible if n <= max(available, 1))


def train_together(
    train: Callable[..., Any], *, helper: Callable[..., Any], arguments: tuple, world: int, device: torch.device
) -> Any:
    """Run `train(ranks)` here as rank 0 and `helper(ranks, *arguments)` in `world - 1` other processes.

    Args:
        train: function for rank 0, with all its arguments bound, such as output files and the MLflow run.
        helper: importable function; its arguments must be picklable.

    Returns:
        the result of `train`

    Raises:
        UserError: a rank failed; all other ranks are stopped.
    """
    if world == 1:
        return train(Ranks())
    threads = torch.get_num_threads()
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="editgan-ranks-") as folder:
        meeting = Path(folder)
        processes = [
            context.Process(
                target=_helper_main, args=(helper, arguments, Ranks(rank, world), device.type, meeting), daemon=True
            )
            for rank in range(1, world)
        ]
        try:
            for process in processes:
                process.start()
            _wait_for(processes, meeting)
            _join(Ranks(0, world), device.type, meeting)
            return train(Ranks(0, world))
        except RuntimeError as error:  # gloo and NCCL raise this if another rank is gone
            failure = _failure_of(processes, meeting)
            if failure is None:
                raise
            raise failure from error
        finally:
            for process in processes:
                process.kill()
                process.join()
            if dist.is_initialized():
                dist.destroy_process_group()
            torch.set_num_threads(threads)


def _wait_for(processes: list, meeting: Path) -> None:
    """Wait until every helper runs. The process group would wait half an hour for one that died before joining."""
    for rank, process in enumerate(processes, start=1):
        while not (meeting / f"started{rank}").exists():
            if process.exitcode is not None:
                raise RuntimeError(f"training process {rank} did not start")
            time.sleep(0.02)


def _join(ranks: Ranks, device_type: str, meeting: Path) -> None:
    """Join the process group through a shared file; on CPUs, divide the cores among the ranks."""
    if device_type == "cuda":
        torch.cuda.set_device(ranks.rank)
    else:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks.world))
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all ranks are on one host
    dist.init_process_group(
        "nccl" if device_type == "cuda" else "gloo",
        init_method=f"file://{meeting / 'store'}",
        rank=ranks.rank,
        world_size=ranks.world,
        timeout=TIMEOUT,
    )


def _helper_main(helper: Callable, arguments: tuple, ranks: Ranks, device_type: str, meeting: Path) -> None:
    """Main function of a rank above 0. It writes its error, if any, to a file, and rank 0 reports it."""
    die_with_stage()
    (meeting / f"started{ranks.rank}").touch()
    keep_freed_memory()
    torch.set_flush_denormal(True)
    try:
        _join(ranks, device_type, meeting)
        helper(ranks, *arguments)
        dist.destroy_process_group()
    except BaseException as error:
        (meeting / f"error{ranks.rank}").write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None


def _failure_of(processes: list, meeting: Path) -> UserError | None:
    """The error of the first rank above 0 that failed; None if none failed."""
    for rank, process in enumerate(processes, start=1):
        process.join(timeout=60)  # a busy machine takes long to end a process
        if process.exitcode:
            message = meeting / f"error{rank}"
            ended = (
                f"killed by signal {-process.exitcode}" if process.exitcode < 0 else f"exit status {process.exitcode}"
            )
            reason = message.read_text() if message.exists() else ended
            return UserError(f"training process {rank} of {len(processes) + 1} failed: {reason}")
    return None
