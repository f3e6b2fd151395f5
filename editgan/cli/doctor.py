"""`editgan doctor`: find what crashes, full disks and other versions have damaged in a checkout, and repair it.

It needs neither network nor trained models. `--fix` loses no data: it never touches results, state that a run could
still use, or files of a running process.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml

from editgan.config import load_params
from editgan.errors import UserError
from editgan.runtime import locks as holders
from editgan.runtime import surroundings, tracking
from editgan.runtime.damage import database_fault, file_fault
from editgan.runtime.dvc import DvcFailed, output, status
from editgan.runtime.environment import HEALTH, answers, home_project, project_environment, servers_file, store_uri
from editgan.runtime.graph import input_hash, load_graph
from editgan.runtime.process import has_gpu

SPARE_BYTES = 1 << 30  # for resumable state, records and temporary files
PARTS = re.compile(r".+\.(part|partial)")  # unfinished files
# Package, first incompatible version, consequence. `pip check` does not detect these.
TRAPS = (
    ("fastapi", "0.151", "Prefect's server refuses its own requests"),
    ("sqlalchemy", "2.1", "Prefect's scheduler stops, so scheduled runs never start"),
    ("scipy", "1.18", "clean-fid calls scipy.linalg.sqrtm with an argument that was removed"),
)


class Finding(NamedTuple):
    """One problem. `repair` is None if a repair would lose data or needs the user."""

    what: str
    remedy: str
    repair: Callable[[], object] | None = None


def examine(root: Path) -> Iterator[Finding]:
    """Yield the problems of the checkout in `root` one by one; each may be repaired before the next.

    Raises:
        UserError: `root` has no dvc.yaml.
    """
    load_graph(root / "dvc.yaml")
    for check in (
        around, databases, mlflow_runs, servers, orphans, archives, outputs, shipped, unfinished,
        states, versions, gpu, disk, parameters,
    ):  # fmt: skip
        yield from check(root)


def treat(root: Path, *, fix: bool, say: Callable[[str], None] = print) -> int:
    """Print every problem with its remedy; with `fix`, repair what can be repaired. Returns how many remain."""
    for note in surroundings.notes(root):
        say(f"note: {note}")
    found = repaired = 0
    for finding in examine(root):
        found += 1
        say(f"- {finding.what}")
        if fix and finding.repair is not None:
            try:
                finding.repair()
                repaired += 1
                say("  repaired")
                continue
            except Exception as error:  # in use again, or no permission
                say(f"  could not be repaired: {error}")
        automatic = "" if fix or finding.repair is None else " (or `editgan doctor --fix`)"
        say(f"  {finding.remedy}{automatic}")
    say(f"problems: {found} found, {repaired} repaired" if found else "no problems found")
    return found - repaired


def around(root: Path) -> Iterator[Finding]:
    """The project's path and folders, temporary files, git, and servers that are given but do not answer."""
    for fault in surroundings.faults(root, pipeline=True):
        yield Finding(*fault)


def databases(root: Path) -> Iterator[Finding]:
    """sqlite files of MLflow and Prefect that cannot be read."""
    for path in (*_mlflow_file(root), Path(project_environment(root)["PREFECT_HOME"]) / "prefect.db"):
        fault = database_fault(path)
        if fault is not None:
            locked = "wait for the process that uses it, or stop that process"
            remedy = locked if "locked" in fault else f"move {path}* away; the next run starts a new record"
            yield Finding(f"{path}: {fault}", remedy)


def mlflow_runs(root: Path) -> Iterator[Finding]:
    """MLflow runs that are marked RUNNING, but have no process."""
    if any(not path.exists() or database_fault(path) for path in _mlflow_file(root)):
        return
    try:
        found = tracking.left_running(root)
    except Exception as error:  # an unreachable store may raise any exception
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        remedy = "start its server; until then, runs write local files only"
        yield Finding(f"{store_uri(root)}: MLflow does not answer ({reason})", remedy)
        return
    if found:
        names = ", ".join(f"{name} ({run_id[:12]})" for run_id, name in found.items())
        what, remedy = f"MLflow: RUNNING without a process: {names}", "the next run marks them KILLED"
        yield Finding(what, remedy, lambda: tracking.left_running(root, close=True))


def servers(root: Path) -> Iterator[Finding]:
    """Servers recorded by `make serve` that no longer run."""
    path = servers_file(root)
    try:
        recorded = json.loads(path.read_text())
        gone = {name: url for name, url in recorded.items() if not answers(f"{url}{HEALTH[name]}", if_busy=True)}
    except FileNotFoundError:
        return
    except (ValueError, AttributeError, KeyError):
        yield Finding(f"{path}: damaged", f"`rm {path}`", path.unlink)
        return
    if gone:
        rest = {name: url for name, url in recorded.items() if name not in gone}
        what = f"{path}: names servers that do not answer: {', '.join(f'{name} {url}' for name, url in gone.items())}"
        repair = (lambda: path.write_text(json.dumps(rest))) if rest else path.unlink
        yield Finding(what, "`make serve` starts them", repair)


def orphans(root: Path) -> Iterator[Finding]:
    """Stage processes whose parent has ended. They stop within seconds, unless they hang."""
    stages = {tuple(stage.cmd.removeprefix("exec ").split()[1:]): stage.name for stage in _graph(root).values()}
    for process in psutil.process_iter():
        try:
            here = Path(process.cwd()) == root and process.status() != psutil.STATUS_ZOMBIE
            command, pid = process.cmdline(), process.pid
            # An orphan gets a parent of another session; a leader of a process group may have been started by one.
            orphaned = here and os.getsid(pid) != os.getsid(process.ppid()) and os.getpgid(pid) != pid
        except (psutil.Error, OSError):
            continue
        for words, stage in stages.items():
            if orphaned and tuple(command[-len(words) :]) == words:
                what = f"process {pid} runs the stage {stage}, but the process that started it has ended"
                yield Finding(what, f"`kill {pid}`, and after half a minute `kill -9 {pid}`")


def archives(root: Path) -> Iterator[Finding]:
    """Packages with pretrained networks that are damaged: downloaded ones, and those supplied by hand."""
    from editgan.assets.manifest import NETWORKS
    from editgan.weights import sha256  # imports torch

    cache = Path(project_environment(root)["EDITGAN_ASSET_CACHE"])
    for archive in {network.archive for network in NETWORKS.values()}:
        kept, by_hand = cache / archive.file, home_project(root) / "data" / "assets" / archive.file
        if kept.exists() and sha256(kept) != archive.sha256:
            yield Finding(f"{kept}: wrong hash", "stage assets downloads it again", kept.unlink)
        if by_hand.exists() and sha256(by_hand) != archive.sha256:
            yield Finding(f"{by_hand}: wrong hash", "supply it again, or remove it")


def outputs(root: Path) -> Iterator[Finding]:
    """Outputs that are missing or differ from dvc.lock."""
    recorded = _recorded(root)
    if not recorded:
        return
    try:
        stale = status(root, wait=False)
        not_stored = _not_in_store(root) if stale else set()
    except DvcFailed as error:
        if any(holders.at_work(root, stage) for stage in recorded):
            return  # DVC is locked by the stage that runs
        yield Finding(str(error), "if another DVC command is running here, wait for it; outputs were not checked")
        return
    for stage, outs in recorded.items():
        changes = {"deleted": [], "modified": []}
        for entry in () if holders.at_work(root, stage) else stale.get(stage, ()):
            for path, state in entry.get("changed outs", {}).items() if isinstance(entry, dict) else ():
                changes.setdefault(state, []).append(path)
        if missing := changes["deleted"]:
            names = ", ".join(sorted(missing)[:3]) + (" ..." if len(missing) > 3 else "")
            fetch = f"`dvc pull --allow-missing {stage}`, or `make demo`"
            remedy = fetch if {*missing} - not_stored else "`make demo` computes them"
            yield Finding(f"{stage}: {len(missing)} of {len(outs)} outputs are missing: {names}", remedy)
        if changes["modified"]:
            yield Finding(
                f"{stage}: damaged, or not yet recorded by DVC: {', '.join(changes['modified'])}",
                f"`dvc checkout --force {stage}` restores the recorded outputs, `dvc pull --force {stage}` the shipped "
                "ones; otherwise the next run computes them again",
            )


def shipped(root: Path) -> Iterator[Finding]:
    """Files of the store in the repository that are not as in git."""
    command = ["git", "-C", root, "diff", "--name-only", "-z", "--", "data/store"]
    for name in filter(None, subprocess.run(command, capture_output=True, text=True).stdout.split("\0")):
        yield Finding(f"{root / name}: damaged or missing", f"`git checkout -- {name}`")


def unfinished(root: Path) -> Iterator[Finding]:
    """Temporary files of killed processes, and unreadable outputs that DVC has not recorded."""
    home, recorded = home_project(root), _recorded(root)
    for stage in _graph(root):
        if holders.at_work(root, stage):
            continue
        for path in (*(root / "outputs" / stage).rglob("*"), *(root / "work" / stage).rglob("*")):
            if PARTS.fullmatch(path.name):
                yield _temporary(path)
            elif stage not in recorded and path.is_relative_to(root / "outputs") and (fault := file_fault(path)):
                yield Finding(f"{path}: {fault}", "the next run computes it again")
    if not any(holders.at_work(one, "assets") for one in holders.checkouts(root)):
        for path in (home / ".cache" / "assets").glob(".download-*"):
            yield _temporary(path)


def states(root: Path) -> Iterator[Finding]:
    """Resumable state that is damaged, or that no run with the present parameters and inputs uses."""
    graph, wanted = _graph(root), _wanted_states(root)
    for folder in (path for path in root.glob("work/*/*") if path.is_dir()):
        stage = folder.parent.name
        if holders.at_work(root, stage) or (folder / "finished").exists():  # the stage clears a finished one
            continue
        if stage not in graph or wanted.get(stage, folder.name) != folder.name:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
            why = "of other parameters or inputs" if stage in graph else "of a stage that no longer exists"
            remedy = f"only a run with these can use it; `rm -r {folder}` if you no longer need it"
            yield Finding(f"{folder}: {size:.1f} MB of state {why}", remedy)
            continue
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if not PARTS.fullmatch(path.name) and (fault := file_fault(path)):
                aside = path.with_name(f"{path.name}.damaged")
                remedy = f"`mv {path} {aside}`; the stage computes its content again"
                yield Finding(f"{path}: {fault}", remedy, lambda path=path, aside=aside: path.rename(aside))


def versions(root: Path) -> Iterator[Finding]:
    """Installed versions that differ from constraints.txt or are known to be incompatible."""
    for name, limit, consequence in TRAPS:
        here = _installed(name)
        if here and _numbers(here) >= _numbers(limit):
            yield Finding(f"{name} {here}: {consequence}", f"`pip install '{name}<{limit}'`, or `make install`")
    if vision := _installed("torchvision"):
        torch = _installed("torch")
        needed = re.findall(r"^torch==([\w.]+)", "\n".join(requires("torchvision") or ()), re.MULTILINE)
        if needed and needed[0] != (torch or "").partition("+")[0]:
            what = f"torchvision {vision} is built for torch {needed[0]}, not {torch}"
            yield Finding(what, f"`pip install torch=={needed[0]}`, or `make install`")
    listing = root / "constraints.txt"
    pins = re.findall(r"^([\w.-]+)==(\S+)", listing.read_text(), re.MULTILINE) if listing.exists() else ()
    pinned = ((name, _installed(name), pin) for name, pin in pins)
    others = [f"{name} {here} (pinned {pin})" for name, here, pin in pinned
              if here and here.partition("+")[0] != pin.partition("+")[0]]  # fmt: skip
    if others:
        remedy = "these versions were not tested together; `pip install -e . -c constraints.txt`"
        yield Finding(f"versions that constraints.txt does not list: {', '.join(others)}", remedy)


def gpu(root: Path) -> Iterator[Finding]:
    """A GPU that this build of torch cannot use; `runtime.device: cuda` without a GPU."""
    try:
        device = yaml.safe_load((root / "params.yaml").read_text())["runtime"]["device"]
    except (OSError, ValueError, RecursionError, yaml.YAMLError, KeyError, TypeError):
        device = "auto"
    if device == "cpu":
        return
    if not has_gpu():
        if device == "cuda":
            yield Finding("params.yaml: runtime.device is cuda, but the driver lists no GPU", "set it to auto or cpu")
        return
    import torch

    if torch.version.cuda is None:
        remedy = "install torch's CUDA build, see section GPU of docs/quickstart.md"
        yield Finding(f"the driver lists a GPU, but torch {torch.__version__} is built without CUDA", remedy)
    elif not torch.cuda.is_available():
        what = f"the driver lists a GPU that torch {torch.__version__} (CUDA {torch.version.cuda}) cannot use"
        yield Finding(what, "update the driver, or install a build of torch for its CUDA version")


def parameters(root: Path) -> Iterator[Finding]:
    """Errors in params.yaml, which would stop every run."""
    try:
        load_params(root / "params.yaml")
    except UserError as error:
        yield Finding(str(error), "correct it, or `git checkout -- params.yaml`")


def disk(root: Path) -> Iterator[Finding]:
    """Too little free space for the missing outputs; each is stored in outputs/ and in DVC's cache."""
    sizes = [out.get("size", 0) for outs in _recorded(root).values() for path, out in outs.items()
             if not (root / path).exists()]  # fmt: skip
    free, needed = shutil.disk_usage(root).free, 2 * sum(sizes) + SPARE_BYTES
    if free < needed:
        what = f"{root}: {free / 1e9:.1f} GB are free, and a run needs {needed / 1e9:.1f}"
        yield Finding(what, "free some space, e.g. delete folders in runs/ that you no longer need")


def _graph(root: Path) -> dict:
    return load_graph(root / "dvc.yaml")


def _recorded(root: Path) -> dict[str, dict[str, dict]]:
    """Entries of dvc.lock (md5, size) of all outputs, by stage and path."""
    path = root / "dvc.lock"
    try:
        stages = (yaml.safe_load(path.read_text()) or {}).get("stages") or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, AttributeError):
        remedy = f"`git checkout -- {path.name}`, or delete it: DVC then restores the outputs from its cache"
        raise UserError(f"{path}: cannot be read; {remedy}") from None
    return {name: {out["path"]: out for out in stages[name].get("outs", ())} for name in _graph(root) if name in stages}


def _not_in_store(root: Path) -> set[str]:
    """Outputs that the store in the repository does not have."""
    found = json.loads(output(root, "data", "status", "--json", "--not-in-remote", wait=False))
    return {path.rstrip("/") for path in found.get("not_in_remote", ())}


def _wanted_states(root: Path) -> dict[str, str]:
    """The state folder that the next run of each stage uses; stages with missing inputs are left out."""
    wanted = {}
    try:
        params = load_params(root / "params.yaml").model_dump(mode="json")
    except UserError:  # `parameters` reports it
        return wanted
    for name, stage in _graph(root).items():
        try:
            wanted[name] = input_hash(stage, root, params)
        except UserError:  # an input is missing
            continue
    return wanted


def _temporary(path: Path) -> Finding:
    repair = (lambda: shutil.rmtree(path)) if path.is_dir() else path.unlink
    return Finding(f"{path}: temporary file of a killed process", f"`rm -r {path}`", repair)


def _mlflow_file(root: Path) -> list[Path]:
    kind, _, path = store_uri(root).partition(":///")
    return [Path(path)] if kind == "sqlite" else []  # a server has no file here


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])
