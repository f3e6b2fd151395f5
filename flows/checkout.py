"""Checkouts in runs/NAME: runs with other parameters that do not change the default run.

A checkout is a shared git clone with the files of the project's working tree and one params file merged into its
params.yaml. It shares the DVC cache, the downloads and the MLflow store. Outputs, dvc.lock and states are its own.
"""

import configparser
import filecmp
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml

from editgan.config import read_params
from editgan.errors import UserError

RELEASED = Path("data") / "released"  # NAME/: dvc.lock and metrics of params/NAME.yaml, whose models the store has
SCRATCH_MARK = "editgan-scratch"  # file in .git of a checkout that started without results
OWN = ("outputs/", "dvc.lock", "params.yaml")  # an update of a checkout keeps these


def prepare_checkout(
    project: Path,
    checkout: Path,
    params: Path,
    *,
    cache: Path | None = None,
    results: bool = True,
    follow: bool = False,
    overrides: Mapping[str, str] | None = None,
) -> Path:
    """Create a checkout, or copy the files of the project's working tree into it again (not git-ignored ones).

    A new checkout is made as `.NAME.new` and renamed when it is complete, so an interrupted one is made again.

    Args:
        project: the project to copy, a git repository.
        checkout: the folder, e.g. runs/ci.
        params: params file, relative to the project or absolute, merged over the project's params.yaml. A file of the
            same name in edits/ beside it replaces edits.yaml, because other data have other part classes.
        cache: folder of its DVC cache; None: the project's.
        results: start with the project's results, or with those in data/released of a run with a params file of
            this name; False: start without any.
        follow: also update an existing checkout to the project's dvc.lock and metrics, i.e. to released results.
        overrides: values as text by dotted key of the params file.

    Raises UserError: no such params file or key, the project is not a git repository, or the folder is not a checkout.
    """
    params = params if params.is_absolute() else project / params
    if not params.is_file():
        raise UserError(f"{params}: no such params file")
    if checkout.exists() and not (checkout / ".git").exists():
        raise UserError(f"{checkout}: exists and is not a checkout; remove it or choose another --name")
    new, mark = not checkout.exists(), checkout / ".git" / SCRATCH_MARK
    if not new and mark.exists() == results:
        made, asked = ("with", "without") if results else ("without", "with")
        raise UserError(
            f"{checkout}: was created {made} --scratch, but this run is {asked} it; remove it or choose another --name"
        )
    folder = checkout.with_name(f".{checkout.name}.new") if new else checkout
    if new:
        checkout.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        _git(project, "clone", "--quiet", "--shared", "--no-checkout", str(project), str(folder))
        if not results:
            (folder / ".git" / SCRATCH_MARK).touch()
    _follow_commit(project, folder)
    _copy_working_tree(project, folder, keep_own=not ((new or follow) and results))
    if new and results and (released := project / RELEASED / params.stem).is_dir():
        shutil.copytree(released, folder, dirs_exist_ok=True)
    default = project / "params.yaml"
    if params.resolve() == default.resolve():  # keeps its comments
        shutil.copyfile(default, folder / "params.yaml")
    else:
        (folder / "params.yaml").write_text(yaml.safe_dump(read_params(params, default), sort_keys=False))
    if overrides:
        override(folder / "params.yaml", overrides)
    edits = params.parent / "edits" / params.name
    if edits.is_file():
        shutil.copyfile(edits, folder / "edits.yaml")
    _share_cache(project, folder, cache)
    return folder.rename(checkout)


def override(params: Path, overrides: Mapping[str, str]) -> None:
    """Change values of a params file. Raises UserError: unknown key, or a value is not YAML."""
    content = yaml.safe_load(params.read_text())
    for key, value in overrides.items():
        override_in(content, key, value, params.name)
    params.write_text(yaml.safe_dump(content, sort_keys=False))


def override_in(content: dict, key: str, value: str, name: str) -> None:
    """Change one value, given as text, in the content of the params file `name`. Raises UserError like `override`."""
    *path, last = key.split(".")
    section = content
    for part in path:
        section = section.get(part) if isinstance(section, dict) else None
    if not isinstance(section, dict) or last not in section:
        raise UserError(f"{key}={value}: {name} has no such key")
    try:
        section[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{key}={value}: not YAML: {error}") from None


def _follow_commit(project: Path, checkout: Path) -> None:
    """Set the checkout's HEAD to the project's commit without changing files."""
    command = ["git", "-C", project, "rev-parse", "--verify", "--quiet", "HEAD"]
    if commit := subprocess.run(command, capture_output=True, text=True).stdout.strip():
        _git(checkout, "fetch", "--quiet", str(project), "HEAD")
        _git(checkout, "reset", "--quiet", commit)


def _copy_working_tree(project: Path, checkout: Path, keep_own: bool) -> None:
    """Copy all files that git does not ignore; delete those that the project no longer has."""
    files = {name for name in _listed(project) if (project / name).is_file()}
    for name in sorted(files):
        if keep_own and name.startswith(OWN):
            continue
        source, target = project / name, checkout / name
        if not target.exists() or not filecmp.cmp(source, target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    for name in _listed(checkout):
        if name not in files and not name.startswith(OWN):
            (checkout / name).unlink(missing_ok=True)


def _share_cache(project: Path, checkout: Path, cache: Path | None) -> None:
    """Write the checkout's private DVC settings: those of the project, the cache folder, and the project's store."""
    shared, private = (_dvc_config(project, *names) for names in (("config", "config.local"), ("config.local",)))
    own = (project / ".dvc" / shared.get("cache", "dir", fallback="cache")).resolve()
    store = {"url": str(project / "data" / "store")}
    private.read_dict({"cache": {"dir": str(cache or own)}, "'remote \"store\"'": store})
    with (checkout / ".dvc" / "config.local").open("w") as file:
        private.write(file)


def _dvc_config(project: Path, *names: str) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read(project / ".dvc" / name for name in names)
    return config


def _listed(repository: Path) -> list[str]:
    """Files that git does not ignore."""
    names = _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [name for name in names.split("\0") if name]


def _git(repository: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError("git is needed for a checkout, but it is not on PATH") from None
    if done.returncode:
        raise UserError(f"{repository}: `git {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
