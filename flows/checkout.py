"""Checkouts under runs/NAME: other runs of the same project that leave the default one untouched.

A checkout is a git clone that borrows the project's objects, brought to the state of the project's working tree, with
one params file merged into its params.yaml. It shares the DVC cache, the downloads and the MLflow store, and keeps
its own outputs, dvc.lock and resumable state.
"""

import configparser
import filecmp
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml

from editgan.errors import UserError
from editgan.section import read_params

SCRATCH_MARK = "editgan-scratch"  # in .git of a checkout that began with nothing
# What a checkout has of its own once it exists: results of its own parameters.
OWN = ("outputs/", "dvc.lock", "params.yaml")


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
    """Make a checkout, or bring it up to date with the project's working tree (git-ignored files stay behind).

    A new one gets its name once it is whole: whoever is killed while making it leaves `.NAME.new`, which is made anew.

    Args:
        project: the project to copy, a git repository.
        checkout: the folder, e.g. runs/ci.
        params: params file, relative to the project or absolute, whose values take the place of those of the
            project's params.yaml; edits/ beside it may hold edits of the same name, which take the place of edits.yaml:
            another data set has other part classes.
        cache: folder of its DVC cache, None for the project's.
        results: the checkout began with what the project's stages had left; without, with nothing.
        follow: an older checkout, too, takes over the project's dvc.lock and metrics: what was released meanwhile.
        overrides: values by the dotted key of the params file, as text.

    Raises UserError: no such params file or key, the project is no git repository, or the folder is something else.
    """
    params = params if params.is_absolute() else project / params
    if not params.is_file():
        raise UserError(f"{params}: no such params file")
    if checkout.exists() and not (checkout / ".git").exists():
        raise UserError(f"{checkout}: exists and is no checkout; remove it or choose another --name")
    new, mark = not checkout.exists(), checkout / ".git" / SCRATCH_MARK
    if not new and mark.exists() == results:
        made, asked = ("without", "with") if results is False else ("with", "without")
        raise UserError(
            f"{checkout}: was made {made} --scratch and is asked for {asked} it; remove it or choose another --name"
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
    default = project / "params.yaml"
    if params.resolve() == default.resolve():  # as it is, with its comments
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
    """Change values of a params file. Raises UserError: it has no such key."""
    content = yaml.safe_load(params.read_text())
    for key, value in overrides.items():
        *path, last = key.split(".")
        section = content
        for part in path:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise UserError(f"{key}={value}: {params.name} has no such key")
        try:
            section[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"{key}={value}: not readable as YAML: {error}") from None
    params.write_text(yaml.safe_dump(content, sort_keys=False))


def _follow_commit(project: Path, checkout: Path) -> None:
    """Point the checkout's HEAD at the project's commit without touching its files."""
    command = ["git", "-C", project, "rev-parse", "--verify", "--quiet", "HEAD"]
    if commit := subprocess.run(command, capture_output=True, text=True).stdout.strip():
        _git(checkout, "fetch", "--quiet", str(project), "HEAD")
        _git(checkout, "reset", "--quiet", commit)


def _copy_working_tree(project: Path, checkout: Path, keep_own: bool) -> None:
    """Copy tracked files and those git does not ignore; delete what the project no longer has."""
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
    """Give the checkout the project's private DVC settings, its cache folder or another, and the project's store."""
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
    """Files that git tracks or would track."""
    names = _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [name for name in names.split("\0") if name]


def _git(repository: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError("git is needed for a checkout of its own; it is not on PATH") from None
    if done.returncode:
        raise UserError(f"{repository}: `git {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
