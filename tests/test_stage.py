"""How stages are run: context, resumable state, errors, and processes that are killed."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

import editgan.runtime.stage
from editgan import __main__ as entry
from editgan.errors import UserError
from editgan.runtime import tracking
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.graph import load_graph
from editgan.runtime.process import ERROR_FILE

# A stage of its own in the place of `editing`: it counts to `STEPS` in its work folder, slowly.
DRIVER = f"""
import os, signal, subprocess, sys, time
from types import SimpleNamespace
sys.path.insert(0, {str(PROJECT_ROOT)!r})
import editgan.runtime.stage
from editgan import __main__ as entry
from editgan.runtime import tracking

def run(context):
    if os.environ.get("CHILD"):
        child = subprocess.Popen(["sleep", "600"])
        (context.root / "child.pid").write_text(str(child.pid))
    count = context.work / "count"
    first = int(count.read_text()) if count.exists() else 0
    (context.root / "stage.pid").write_text(str(os.getpid()))
    for step in range(first, int(os.environ.get("STEPS", 1))):
        count.with_suffix(".new").write_text(str(step + 1))
        os.replace(count.with_suffix(".new"), count)
        time.sleep(float(os.environ.get("PAUSE", 0)))
    recipe = (context.input("data") / "recipe.json").read_text()
    (context.out / "result.txt").write_text(f"from {{first}} on, input {{recipe}}")

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
tracking.start_run = lambda name, **options: tracking.offline_run(name)
editgan.runtime.stage.stage_module = lambda name: SimpleNamespace(run=run)
sys.exit(entry.main())
"""
GRAPH = {
    "stages": {
        "data": {"cmd": "true", "outs": ["outputs/data/recipe.json"]},
        "editing": {
            "cmd": "exec python driver.py editing",
            "deps": ["outputs/data/recipe.json"],
            "params": ["seed", "resolution", "editing"],
            "outs": ["outputs/editing/result.txt"],
        },
    }
}


@pytest.fixture
def project(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose only stages are the ones above, without MLflow."""
    (checkout / "driver.py").write_text(DRIVER)
    (checkout / "dvc.yaml").write_text(yaml.safe_dump(GRAPH))
    recipe = checkout / "outputs" / "data" / "recipe.json"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return checkout


def run(project: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "driver.py", "editing"]
    return subprocess.run(command, cwd=project, env=os.environ | environment, capture_output=True, text=True)


def start(project: Path, command=("driver.py", "editing"), **environment: str) -> subprocess.Popen:
    """Start and wait until the stage itself is at work."""
    process = subprocess.Popen([sys.executable, *command], cwd=project, env=os.environ | environment)
    wait_for(lambda: (project / "stage.pid").exists(), 120)
    return process


def wait_for(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def result(project: Path) -> str:
    return (project / "outputs" / "editing" / "result.txt").read_text()


def work_folders(project: Path) -> list[Path]:
    return [path for path in (project / "work" / "editing").iterdir() if path.is_dir()]


def test_killed_stage_resumes(project):
    process = start(project, STEPS="1000", PAUSE="0.1")
    wait_for(lambda: any((folder / "count").exists() for folder in work_folders(project)), 10)
    time.sleep(0.5)
    process.kill()
    process.wait()
    (folder,) = work_folders(project)
    reached = int((folder / "count").read_text())
    done = run(project, STEPS=str(reached + 1))
    assert done.returncode == 0, done.stderr
    assert result(project) == f"from {reached} on, input 1"
    assert (project / "outputs" / "editing" / "run.json").exists()


def test_finished_state_is_kept_until_dvc_has_recorded_the_outputs(project):
    """DVC killed between the end of a stage and its own record runs the stage again: nothing is trained anew."""
    assert run(project, STEPS="2").returncode == 0
    (folder,) = work_folders(project)
    again = run(project, STEPS="2")
    assert again.returncode == 0 and result(project) == "from 2 on, input 1", again.stderr
    (project / "dvc.lock").write_text("schema: '2.0'\n")
    mark = folder / "finished"
    os.utime(mark, (mark.stat().st_mtime - 10,) * 2)
    assert run(project, STEPS="2").returncode == 0
    assert result(project) == "from 0 on, input 1"


def test_finished_state_of_other_inputs_is_deleted(project):
    assert run(project, STEPS="1").returncode == 0
    (first,) = work_folders(project)
    (project / "outputs" / "data" / "recipe.json").write_text("2")
    assert run(project, STEPS="1").returncode == 0
    (second,) = work_folders(project)
    assert first != second


def test_other_inputs_or_params_never_continue_a_state(project):
    process = start(project, STEPS="1000", PAUSE="0.1")
    process.terminate()
    assert process.wait(30) == 143
    (project / "outputs" / "data" / "recipe.json").write_text("2")
    assert run(project).returncode == 0
    assert result(project) == "from 0 on, input 2"
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("seed: 0", "seed: 7"))
    (project / "outputs" / "data" / "recipe.json").write_text("1")
    assert run(project).returncode == 0
    assert result(project) == "from 0 on, input 1"


def test_second_process_is_refused_and_names_the_first(project):
    first = start(project, STEPS="1000", PAUSE="0.1")
    second = run(project)
    assert second.returncode == 1
    assert f"process {first.pid} already runs the stage editing" in second.stderr
    first.kill()
    first.wait()
    assert run(project).returncode == 0, "the lock goes with its holder"


@pytest.fixture
def run_here(project, monkeypatch, capsys):
    """Runs `python -m editgan STAGE` in this process with a stage that does `work`; returns status and stderr."""

    def run_with(work, stage="editing"):
        monkeypatch.setattr(editgan.runtime.stage, "stage_module", lambda name: SimpleNamespace(run=work))
        monkeypatch.setattr(tracking, "start_run", lambda name, **options: tracking.offline_run(name))
        monkeypatch.setattr(entry, "die_with_parent", lambda: None)
        status = entry.main([stage])
        return status, capsys.readouterr().err

    return run_with


def raising(error):
    def work(context):
        raise error

    return work


def test_what_the_user_can_put_right_is_one_message(run_here):
    status, said = run_here(raising(UserError("photo.png: 3 x 3 pixels, at least 32 are needed")))
    assert (status, said) == (1, "editing: photo.png: 3 x 3 pixels, at least 32 are needed\n")
    assert Path("work", "editing", ERROR_FILE).read_text() == said, "from which the flow knows that it need not retry"


def test_full_disk_is_named(run_here):
    status, said = run_here(raising(OSError(errno.ENOSPC, "No space left on device", "outputs/editing/big.zip")))
    assert status == 1
    assert said.startswith("editing: the disk is full (outputs/editing/big.zip); free some space and run again")


def test_a_bug_is_not_dressed_up(run_here):
    with pytest.raises(RuntimeError, match="a bug"):
        run_here(raising(RuntimeError("a bug")))
    for ended in (EOFError(), BrokenPipeError(errno.EPIPE, "Broken pipe")):
        with pytest.raises(RuntimeError, match="ended early"):
            run_here(raising(ended))
    assert not Path("work", "editing", ERROR_FILE).exists()


def test_command_line_is_checked(run_here, capsys):
    assert entry.main([]) == 2 and "Missing argument 'stage'" in capsys.readouterr().err
    assert entry.main(["editing", "--nothing"]) == 2 and "No such option: --nothing" in capsys.readouterr().err
    assert entry.main(["--help"]) == 0 and "--params" in capsys.readouterr().out


def test_missing_input_is_named(run_here, project):
    (project / "outputs" / "data" / "recipe.json").unlink()
    status, said = run_here(lambda context: None)
    assert status == 1
    assert "outputs/data/recipe.json: missing; make it with `dvc repro" in said


def test_unknown_stage_lists_the_stages(run_here):
    status, said = run_here(lambda context: None, stage="editin")
    assert status == 1 and "unknown stage 'editin'; the stages are data, editing" in said


def test_cuda_without_a_gpu_is_refused(run_here, project, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("device: cpu", "device: cuda"))
    status, said = run_here(lambda context: None)
    assert status == 1 and "runtime.device: cuda is requested, but torch finds no GPU" in said


def test_context_is_what_the_stage_was_promised(run_here, project):
    def work(context):
        assert context.name == "editing" and context.params.seed == 0
        assert context.out == project / "outputs" / "editing" and context.out.is_dir()
        assert context.work.parent == project / "work" / "editing" and context.work.is_dir()
        assert context.input("data") == project / "outputs" / "data"
        assert context.device.type == "cpu"

    assert run_here(work) == (0, "")
    assert (project / "outputs" / "editing" / "run.json").exists()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stopped_stage_leaves_its_state_and_no_child(project, signum):
    process = start(project, STEPS="1000", PAUSE="0.1", CHILD="1")
    child = int((project / "child.pid").read_text())
    process.send_signal(signum)
    assert process.wait(30) == 128 + signum
    wait_for(lambda: gone(child), 5)
    assert len(work_folders(project)) == 1


def test_stage_ends_with_a_killed_parent(project):
    parent = start(
        project,
        command=("-c", f"import subprocess; subprocess.run([{sys.executable!r}, 'driver.py', 'editing'])"),
        STEPS="1000", PAUSE="0.1", CHILD="1",
    )  # fmt: skip
    stage, child = (int((project / f"{name}.pid").read_text()) for name in ("stage", "child"))
    assert stage != parent.pid
    parent.kill()
    parent.wait()
    wait_for(lambda: gone(stage) and gone(child), 20)
    assert len(work_folders(project)) == 1


def test_stage_ends_with_a_killed_dvc(project):
    """DVC starts a shell, and the shell is replaced by the stage."""
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=project, check=True)
    dvc = start(project, command=("-m", "dvc", "repro", "-q", "--single-item", "editing"), STEPS="1000", PAUSE="0.1")
    stage = int((project / "stage.pid").read_text())
    dvc.kill()
    dvc.wait()
    wait_for(lambda: gone(stage), 20)
    again = subprocess.run([sys.executable, "-m", "dvc", "repro", "-q", "--single-item", "editing"], cwd=project)
    assert again.returncode == 0
    assert result(project) != "from 0 on, input 1", "it went on where it was"


def test_every_command_replaces_its_shell():
    for stage in load_graph(PROJECT_ROOT / "dvc.yaml").values():
        assert stage.cmd == f"exec python -m editgan {stage.name}"


@pytest.mark.skipif(not hasattr(__import__("ctypes").CDLL(None), "mallopt"), reason="glibc only")
def test_freed_tensors_stay_with_the_process():
    counting = """
import resource, sys
from editgan.runtime.process import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(40_000_000)
before = faults()
for _ in range(5):
    bytearray(40_000_000)
print(faults() - before)
"""
    spent = {
        mode: int(subprocess.run([sys.executable, "-c", counting, mode], capture_output=True, check=True).stdout)
        for mode in ("keep", "return")
    }
    assert spent["keep"] < spent["return"] / 10


@pytest.mark.skipif(not hasattr(__import__("ctypes").CDLL(None), "mallopt"), reason="glibc only")
def test_threads_reuse_the_memory_that_others_have_freed():
    threads = """
import threading, psutil
from editgan.runtime.process import keep_freed_memory
keep_freed_memory()
most, hold, used = 6, threading.Barrier(6), []
def work(number):
    for turn in range(most):  # one after another, while all of them live
        if turn == number:
            [bytearray(b"1" * 1_000_000) for _ in range(40)]
            used.append(psutil.Process().memory_info().rss)
        hold.wait()
workers = [threading.Thread(target=work, args=(number,)) for number in range(most)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
print(used[-1] - used[0])
"""
    grown = int(subprocess.run([sys.executable, "-c", threads], capture_output=True, check=True).stdout)
    assert grown < 20_000_000
