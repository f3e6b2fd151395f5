"""Machines as people have them: odd users, homes and paths, no git, silent servers. Each works, or is one line."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from editgan.cli.doctor import treat
from editgan.errors import UserError
from editgan.runtime import environment, surroundings
from editgan.runtime.environment import LONG_TMPDIR, PROJECT_ROOT, TMPDIR_BYTES, project_environment

PRINT_ENVIRONMENT = (
    "import json, os, pathlib, getpass, tempfile, multiprocessing\n"
    "from editgan.runtime.environment import apply_environment\n"
    "apply_environment(pathlib.Path({root!r}))\n"
    "if __name__ == '__main__':\n"
    "    with multiprocessing.get_context('forkserver').Pool(1) as pool:\n"
    "        assert pool.map(abs, [-1]) == [1]\n"
    "    print(json.dumps([os.path.expanduser('~'), getpass.getuser(), tempfile.gettempdir()]))\n"
)


def seen(tmp_path: Path, **variables: str | None) -> tuple[str, str, str]:
    """Home, user and folder of temporary files that a process sees, which also starts a worker process."""
    script = tmp_path / "show.py"
    script.write_text(PRINT_ENVIRONMENT.format(root=str(tmp_path / "project")))
    given = {key: value for key, value in os.environ.items() if key not in variables} | {
        key: value for key, value in variables.items() if value is not None
    }
    given["PYTHONPATH"] = str(PROJECT_ROOT)
    done = subprocess.run([sys.executable, script], env=given, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def long_folder(tmp_path: Path) -> Path:
    folder = tmp_path / ("t" * 90)
    folder.mkdir()
    return folder


@pytest.mark.parametrize("home", [None, "/", "/nowhere"])
def test_home_that_cannot_be_used_is_replaced(tmp_path, home):
    found, _, _ = seen(tmp_path, HOME=home)
    assert found == str(tmp_path / "project/.cache/home") and Path(found).is_dir()


def test_home_and_temporary_folder_that_can_be_used_stay(tmp_path):
    found, _, temporary = seen(tmp_path, HOME=str(tmp_path), TMPDIR=str(Path("/tmp")))
    assert (found, temporary) == (str(tmp_path), "/tmp")


def test_long_temporary_folder_is_replaced(tmp_path):
    """Without that, a pool ends in `AF_UNIX path too long`."""
    assert seen(tmp_path, TMPDIR=str(long_folder(tmp_path)))[2] == "/tmp"


def test_user_without_a_name_gets_one(tmp_path, monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(environment.pwd, "getpwuid", unknown)
    for name in ("USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    made = project_environment(tmp_path)
    assert made["USER"] == made["LOGNAME"] == f"user{os.getuid()}"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_user_id_of_a_container_runs_a_process():
    """As `docker run --user 12345`: no name, no home."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "editgan/runtime").mkdir(parents=True)
        for name in ("editgan/__init__.py", "editgan/runtime/__init__.py", "editgan/runtime/environment.py"):
            shutil.copy(PROJECT_ROOT / name, folder / name)
        (folder / "show.py").write_text(PRINT_ENVIRONMENT.format(root=f"{folder}/project"))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": made, "HOME": "/"}
        for python in (sys.executable, "/usr/bin/python3"):
            try:
                done = subprocess.run(
                    [python, f"{made}/show.py"], env=given, capture_output=True, text=True, cwd=made, user=12345
                )
                break
            except OSError:  # the interpreter lies in a folder of root
                continue
        else:
            pytest.skip("another user can start no Python here")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[:2] == [f"{folder}/project/.cache/home", "user12345"]


@pytest.mark.parametrize("name", ["a b", "äöü", "50%", "a&b;c", "x(1)", "$x"])
def test_paths_that_every_tool_can_read(tmp_path, name):
    (tmp_path / name).mkdir()
    assert surroundings.faults(tmp_path / name) == []


@pytest.mark.parametrize("name", ["a b", "50%", "$x", "`id`", "a&b;c"])
def test_make_finds_the_programs_of_the_project_in_any_path(tmp_path, name):
    root = tmp_path / name
    (root / ".venv/bin").mkdir(parents=True)
    for file in ("Makefile", "pyproject.toml", "constraints.txt", "editgan/runtime/environment.py"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT_ROOT / file, root / file)
    (root / ".venv/installed").touch()
    (root / ".venv/bin/ruff").write_text("#!/bin/sh\necho found\n")
    (root / ".venv/bin/ruff").chmod(0o755)
    done = subprocess.run(["make", "-s", "lint"], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "found\n"), done.stderr


@pytest.mark.parametrize("sign", [",", "#", "?", '"', "'", "{", "}"])
def test_paths_that_a_tool_cannot_read_are_refused(tmp_path, sign):
    root = tmp_path / f"my {sign} project"
    root.mkdir()
    with pytest.raises(UserError, match="the project's path .* contains .*; move the project") as caught:
        surroundings.refuse(root)
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_written_to_are_named(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(surroundings.os, "access", lambda path, mode: Path(path).name != "work")
    with pytest.raises(UserError, match="work: cannot be written to .* copy the project"):
        surroundings.refuse(tmp_path)


def test_missing_temporary_folder_and_shared_memory_are_named(tmp_path, monkeypatch):
    def none():
        raise FileNotFoundError

    monkeypatch.setattr(surroundings, "SHARED_MEMORY", tmp_path / "shm")
    (fault,) = surroundings.faults(tmp_path)
    assert "shm is missing" in fault.what and "mount it" in fault.remedy
    monkeypatch.setattr(surroundings.tempfile, "gettempdir", none)
    assert "no folder for temporary files" in surroundings.faults(tmp_path)[0].what
    monkeypatch.setattr(surroundings.tempfile, "gettempdir", lambda: "/t" + "x" * TMPDIR_BYTES)
    assert f"has {TMPDIR_BYTES + 2} bytes" in surroundings.faults(tmp_path)[0].what


def repository(root: Path) -> Path:
    root.mkdir()
    subprocess.run(["git", "init", "--quiet", root], check=True)
    return root


def test_copy_without_git_is_named(tmp_path, monkeypatch):
    for name in ("whole", "blank at the end "):
        assert surroundings.faults(repository(tmp_path / name), pipeline=True) == []
    copy = tmp_path / "whole/copy"
    copy.mkdir()
    for root in (copy, tmp_path):
        (fault,) = surroundings.faults(root, pipeline=True)
        assert "is not a git repository" in fault.what and "git init" in fault.remedy
    monkeypatch.setenv("PATH", "")
    assert "git is not on PATH" in surroundings.faults(copy, pipeline=True)[0].what


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_repository_of_another_owner_is_named(tmp_path):
    root = repository(tmp_path / "theirs")
    for path in (root, root / ".git"):
        os.chown(path, 12345, 12345)
    (fault,) = surroundings.faults(root, pipeline=True)
    assert "belongs to another user" in fault.what and f"safe.directory '{root}'" in fault.remedy


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://localhost:port/api", "http://a b", "localhost:4200"])
def test_server_that_does_not_answer_is_named(tmp_path, monkeypatch, url):
    root = repository(tmp_path / "whole")
    monkeypatch.setenv("PREFECT_API_URL", url)
    (fault,) = surroundings.faults(root, pipeline=True)
    assert fault.what == f"PREFECT_API_URL {url} does not answer"


def test_stage_is_refused_in_one_line(tmp_path):
    root = tmp_path / "a, b"
    root.mkdir()
    command = [sys.executable, "-m", "editgan", "data"]
    given = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=root, env=given, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "contains ','" in done.stderr


def test_doctor_names_faults_and_replacements(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.setenv("HOME", str(tmp_path / ".cache/home"))
    monkeypatch.setenv(LONG_TMPDIR, "/long")
    monkeypatch.setattr("editgan.cli.doctor.mlflow_runs", lambda root: ())
    lines = []
    assert treat(tmp_path, fix=False, say=lines.append) > 0
    said = "\n".join(lines)
    assert "note: HOME is not a folder that can be written to" in said and "note: TMPDIR /long is too long" in said
    assert f"- {tmp_path}: is not a git repository" in said
