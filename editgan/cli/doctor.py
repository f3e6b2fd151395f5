"""`editgan doctor`: what crashes, full disks and foreign versions have left in a checkout, and how to mend it.

Needs neither network nor trained models. What `--fix` does loses nothing: results are never touched, nor state that a
run could still take up, nor what belongs to a process that lives.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import psutil
import yaml

from editgan.errors import UserError
from editgan.runtime import locks as holders
from editgan.runtime import tracking
from editgan.runtime.damage import database_fault, dvc_hash, file_fault
from editgan.runtime.environment import HEALTH, answers, home_project, project_environment, servers_file, store_uri
from editgan.runtime.graph import input_hash, load_graph
from editgan.runtime.process import has_gpu

SPARE_BYTES = 1 << 30  # for resumable state, records and temporary files
PARTS = re.compile(r".+\.(part|partial)|\.[\w-]{22}\.tmp")  # our own unfinished files, and DVC's
SHIPPED = "data/store/files/md5"
# Package, first version that does not work, what happens: nothing that `pip check` sees.
TRAPS = (
    ("fastapi", "0.151", "Prefect's server refuses its own requests"),
    ("sqlalchemy", "2.1", "Prefect's scheduler stops: no scheduled run is ever made"),
    ("scipy", "1.18", "clean-fid calls scipy.linalg.sqrtm with an argument that is gone"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `mend` puts it right; None where that would lose something or needs the user."""

    what: str
    remedy: str
    mend: Callable[[], object] | None = None


def examine(root: Path) -> Iterator[Finding]:
    """Everything that is wrong with the checkout in `root`, as it is found; each may be mended before the next.

    Raises UserError: `root` holds no dvc.yaml.
    """
    load_graph(root / "dvc.yaml")
    for check in (
        databases, mlflow_runs, dvc_locks, servers, orphans, archives, outputs, shipped, unfinished,
        states, versions, gpu, disk, parameters,
    ):  # fmt: skip
        yield from check(root)


def treat(root: Path, *, fix: bool, say: Callable[[str], None] = print) -> int:
    """Say everything that is wrong, with its remedy, and mend what can be; returns how much is left."""
    found = mended = 0
    for finding in examine(root):
        found += 1
        say(f"- {finding.what}")
        if fix and finding.mend is not None:
            try:
                finding.mend()
                mended += 1
                say("  mended")
                continue
            except Exception as error:  # taken up by somebody meanwhile, or not ours to write
                say(f"  could not be mended: {error}")
        by_itself = "" if fix or finding.mend is None else " (or `editgan doctor --fix`)"
        say(f"  {finding.remedy}{by_itself}")
    say(f"{found} found, {mended} mended" if found else "all is well")
    return found - mended


def databases(root: Path) -> Iterator[Finding]:
    """sqlite files that cannot be read."""
    caches = (home_project(root) / ".cache" / "dvc-site").rglob("cache.db")
    prefect = Path(project_environment(root)["PREFECT_HOME"]) / "prefect.db"
    for path in (*_mlflow_file(root), prefect, *caches):
        fault = database_fault(path)
        if fault is None:
            continue
        if "locked" in fault:
            yield Finding(f"{path}: {fault}", "wait for the process that holds it, or end it")
        elif path.name == "cache.db":  # DVC's memory of hashes, which it computes again
            yield Finding(f"{path}: {fault}", f"`rm {path}*`; DVC makes it again", lambda path=path: _delete(path))
        else:
            yield Finding(f"{path}: {fault}", f"move {path}* away; the next run begins a new record")


def mlflow_runs(root: Path) -> Iterator[Finding]:
    """MLflow runs that stay RUNNING without a process."""
    if any(not path.exists() or database_fault(path) for path in _mlflow_file(root)):
        return
    try:
        found = tracking.left_running(root)
    except Exception as error:  # whatever a store says that does not answer
        reason = str(error).splitlines()[0][:200]
        yield Finding(f"{store_uri(root)}: MLflow does not answer ({reason})", "until then runs record local files")
        return
    if found:
        names = ", ".join(f"{name} ({run_id[:12]})" for run_id, name in found.items())
        what, remedy = f"MLflow: RUNNING without a process: {names}", "the next run ends them as KILLED"
        yield Finding(what, remedy, lambda: tracking.left_running(root, close=True))


def dvc_locks(root: Path) -> Iterator[Finding]:
    """DVC's list of files in use, which is DVC's to change: damaged, or naming a process that is another program.

    DVC drops entries of processes that are gone; it waits for one whose number another program has got since.
    """
    path = root / ".dvc" / "tmp" / "rwlock"
    remedy = f"`rm {path}`, once no DVC command runs here"
    try:
        content = json.loads(path.read_text())
        readers = [entry["pid"] for entries in content.get("read", {}).values() for entry in entries]
        writers = [entry["pid"] for entry in content.get("write", {}).values() if entry]
        others = sorted(filter(_other_program, {*readers, *writers}))
    except FileNotFoundError:
        return
    except (ValueError, AttributeError, KeyError, TypeError):  # no JSON, or of another shape
        yield Finding(f"{path}: damaged, so DVC refuses every command", remedy)
        return
    if others:
        yield Finding(f"{path}: names processes that are no DVC command: {', '.join(map(str, others))}", remedy)


def _other_program(pid: int) -> bool:
    """Whether a process of this number runs and is no DVC command."""
    try:
        return not any("dvc" in word for word in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


def servers(root: Path) -> Iterator[Finding]:
    """The record of servers that `make serve` has started: those that are gone."""
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
        mend = (lambda: path.write_text(json.dumps(rest))) if rest else path.unlink
        yield Finding(what, "`make serve` starts them", mend)


def orphans(root: Path) -> Iterator[Finding]:
    """Stage processes whose parent is gone; they end themselves within seconds, unless they hang."""
    stages = {tuple(stage.cmd.removeprefix("exec ").split()[1:]): stage.name for stage in _graph(root).values()}
    for process in psutil.process_iter():
        try:
            here = Path(process.cwd()) == root and process.status() != psutil.STATUS_ZOMBIE
            command, pid = process.cmdline(), process.pid
            # Handed over to another session's process; one that leads its group was started that way.
            orphaned = here and os.getsid(pid) != os.getsid(process.ppid()) and os.getpgid(pid) != pid
        except (psutil.Error, OSError):
            continue
        for words, stage in stages.items():
            if orphaned and tuple(command[-len(words) :]) == words:
                what = f"process {pid} runs the stage {stage} though what started it is gone"
                yield Finding(what, f"`kill {pid}`, after half a minute `kill -9 {pid}`")


def archives(root: Path) -> Iterator[Finding]:
    """Downloaded packages with pretrained networks that are damaged."""
    from editgan.assets.manifest import NETWORKS

    def whole(path: Path, archive) -> bool:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == archive.sha256

    cache = Path(project_environment(root)["EDITGAN_ASSET_CACHE"])
    for archive in {network.archive for network in NETWORKS.values()}:
        kept, by_hand = cache / archive.file, home_project(root) / "data" / "assets" / archive.file
        if kept.exists() and not whole(kept, archive):
            yield Finding(f"{kept}: not what the manifest lists", "the stage assets downloads it again", kept.unlink)
        if by_hand.exists() and not whole(by_hand, archive):
            yield Finding(f"{by_hand}: not what the manifest lists", "supply it again, or remove it")


def outputs(root: Path) -> Iterator[Finding]:
    """Outputs that are missing or have another content than dvc.lock says."""
    if holders.dvc_at_work(root):  # which deletes and makes them
        return
    stored = {path.parent.name + path.name for path in (root / SHIPPED).glob("*/*")}
    for stage, outs in _recorded(root).items():
        missing = {path for path in outs if not (root / path).exists()}
        changed = [path for path, out in outs.items() if path not in missing and dvc_hash(root / path) != out["md5"]]
        if missing:
            names = ", ".join(sorted(missing)[:3]) + (" ..." if len(missing) > 3 else "")
            shipped = any(outs[path]["md5"] in stored for path in missing)
            remedy = f"`dvc pull --allow-missing {stage}`, or `make demo`" if shipped else "`make demo` makes them"
            yield Finding(f"{stage}: {len(missing)} of {len(outs)} outputs are missing: {names}", remedy)
        if changed:
            yield Finding(
                f"{stage}: damaged, or not yet recorded by DVC: {', '.join(changed)}",
                f"`dvc checkout --force {stage}` brings back what was recorded, `dvc pull --force {stage}` what is "
                "shipped; otherwise the next run makes them again",
            )


def shipped(root: Path) -> Iterator[Finding]:
    """Files of the store in the repository, whose names are the hashes of their content."""
    for path in (root / SHIPPED).glob("*/*"):
        if hashlib.md5(path.read_bytes()).hexdigest() != path.parent.name + path.name.removesuffix(".dir"):
            yield Finding(f"{path}: damaged", f"`git checkout -- {path.relative_to(root)}`")


def unfinished(root: Path) -> Iterator[Finding]:
    """Temporary files of writers that were killed, and outputs that DVC knows nothing of and that cannot be read."""
    home = home_project(root)
    recorded = _recorded(root)
    for stage in _graph(root):
        if holders.at_work(root, stage):
            continue
        for path in (*(root / "outputs" / stage).rglob("*"), *(root / "work" / stage).rglob("*")):
            if PARTS.fullmatch(path.name):
                yield _temporary(path)
            elif stage not in recorded and path.is_relative_to(root / "outputs") and (fault := file_fault(path)):
                yield Finding(f"{path}: {fault}", "the next run makes it again")
    folders = holders.checkouts(root)
    if not any(holders.dvc_at_work(one) for one in folders):
        for path in (path for one in {home, root} for path in (one / ".dvc" / "cache").rglob(".*.tmp")):
            yield _temporary(path)
    if not any(holders.at_work(one, "assets") for one in folders):
        for path in (home / ".cache" / "assets").glob(".download-*"):
            yield _temporary(path)


def states(root: Path) -> Iterator[Finding]:
    """Resumable state that is damaged, or that no run on the present parameters and inputs takes up."""
    graph, wanted = _graph(root), _wanted_states(root)
    for folder in (path for path in root.glob("work/*/*") if path.is_dir()):
        stage = folder.parent.name
        if holders.at_work(root, stage) or (folder / "finished").exists():  # a finished one is cleared by its stage
            continue
        if stage not in graph or wanted.get(stage, folder.name) != folder.name:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
            why = "of other parameters or inputs" if stage in graph else "of a stage that is none any more"
            remedy = f"taken up again only with those; `rm -r {folder}` if they are done with"
            yield Finding(f"{folder}: {size:.1f} MB of state {why}", remedy)
            continue
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if not PARTS.fullmatch(path.name) and (fault := file_fault(path)):
                aside = path.with_name(f"{path.name}.damaged")
                remedy = f"`mv {path} {aside}`; what it held is made again"
                yield Finding(f"{path}: {fault}", remedy, lambda path=path, aside=aside: path.rename(aside))


def versions(root: Path) -> Iterator[Finding]:
    """Installed versions against constraints.txt, and combinations that install cleanly and do not work."""
    installed = {}
    for distribution in distributions():  # the first of a name is the one that is imported
        installed.setdefault(_normal(distribution.metadata["Name"] or ""), distribution)
    here = {name: distribution.version for name, distribution in installed.items()}
    for name, limit, consequence in TRAPS:
        if name in here and _numbers(here[name]) >= _numbers(limit):
            yield Finding(f"{name} {here[name]}: {consequence}", f"`pip install '{name}<{limit}'`, or `make install`")
    if "torchvision" in here:
        needed = re.findall(r"^torch==([\w.]+)", "\n".join(installed["torchvision"].requires or ()), re.MULTILINE)
        if needed and needed[0] != here.get("torch", "").partition("+")[0]:
            what = f"torchvision {here['torchvision']} is built for torch {needed[0]}, not {here.get('torch')}"
            yield Finding(what, f"`pip install torch=={needed[0]}`, or `make install`")
    listing = root / "constraints.txt"
    pins = re.findall(r"^([\w.-]+)==(\S+)", listing.read_text(), re.MULTILINE) if listing.exists() else ()
    others = [f"{name} {version} (pinned {pin})" for name, pin in pins
              if (version := here.get(_normal(name), pin)).partition("+")[0] != pin.partition("+")[0]]  # fmt: skip
    if others:
        remedy = "these were not tested together; `pip install -e . -c constraints.txt`"
        yield Finding(f"versions that constraints.txt does not list: {', '.join(others)}", remedy)


def gpu(root: Path) -> Iterator[Finding]:
    """The build of torch against the driver, and what params.yaml asks for."""
    try:
        asked = yaml.safe_load((root / "params.yaml").read_text())["runtime"]["device"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        asked = "auto"
    if not has_gpu() and asked == "cuda":
        yield Finding("params.yaml: runtime.device is cuda, and the driver lists no GPU", "set it to auto or cpu")
    if not has_gpu():
        return
    import torch

    if asked != "cpu" and torch.version.cuda is None:
        remedy = "install torch's CUDA build, see `On a GPU` in README.md"
        yield Finding(f"the driver lists a GPU, and torch {torch.__version__} is built without CUDA", remedy)
    elif asked != "cpu" and not torch.cuda.is_available():
        what = f"the driver lists a GPU that torch {torch.__version__} (CUDA {torch.version.cuda}) cannot use"
        yield Finding(what, "update the driver, or install a build of torch for its CUDA version")


def parameters(root: Path) -> Iterator[Finding]:
    """Faults of params.yaml, at which every run would stop."""
    from editgan.config import load_params  # brings the params classes of all stages

    try:
        load_params(root / "params.yaml")
    except UserError as error:
        yield Finding(str(error), "correct it, or `git checkout -- params.yaml`")


def disk(root: Path) -> Iterator[Finding]:
    """Free space against what is still to be made: every output comes to lie in outputs/ and in DVC's cache."""
    sizes = [out.get("size", 0) for outs in _recorded(root).values() for path, out in outs.items()
             if not (root / path).exists()]  # fmt: skip
    free, needed = shutil.disk_usage(root).free, 2 * sum(sizes) + SPARE_BYTES
    if free < needed:
        what = f"{root}: {free / 1e9:.1f} GB are free, and a run needs {needed / 1e9:.1f}"
        yield Finding(what, "free some, e.g. folders in runs/ that are done with")


def _graph(root: Path) -> dict:
    return load_graph(root / "dvc.yaml")


def _recorded(root: Path) -> dict[str, dict[str, dict]]:
    """What dvc.lock says of every output of every stage: its md5 and size, by stage and path."""
    path = root / "dvc.lock"
    try:
        stages = (yaml.safe_load(path.read_text()) or {}).get("stages") or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, AttributeError):
        remedy = f"`git checkout -- {path.name}`, or delete it: DVC's cache then gives back what was made"
        raise UserError(f"{path}: not readable; {remedy}") from None
    return {name: {out["path"]: out for out in stages[name].get("outs", ())} for name in _graph(root) if name in stages}


def _wanted_states(root: Path) -> dict[str, str]:
    """The state folder that the next run of each stage takes up, as far as its inputs are there to tell."""
    from editgan.config import load_params  # brings the params classes of all stages

    wanted = {}
    try:
        params = load_params(root / "params.yaml").model_dump(mode="json")
    except UserError:  # the next run lists its faults
        return wanted
    for name, stage in _graph(root).items():
        try:
            wanted[name] = input_hash(stage, root, params)
        except UserError:  # an input is missing
            continue
    return wanted


def _temporary(path: Path) -> Finding:
    mend = (lambda: shutil.rmtree(path)) if path.is_dir() else path.unlink
    return Finding(f"{path}: left by a writer that was killed", f"`rm -r {path}`", mend)


def _delete(database: Path) -> None:
    for path in database.parent.glob(f"{database.name}*"):  # with its journal, which would be read into the next one
        path.unlink()


def _mlflow_file(root: Path) -> list[Path]:
    kind, _, path = store_uri(root).partition(":///")
    return [Path(path)] if kind == "sqlite" else []  # of a server there is none


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])
