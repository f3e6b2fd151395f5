"""Checkouts under runs/: what they take over from the project, and what is their own."""

import subprocess
from pathlib import Path

import pytest
import yaml
from fake_project import make_project

from editgan.errors import UserError
from flows.checkout import prepare_checkout


def params_of(folder: Path) -> dict:
    return yaml.safe_load((folder / "params.yaml").read_text())


def test_checkout_follows_the_working_tree_and_keeps_its_results(tmp_path):
    project = make_project(tmp_path / "project")
    checkout = prepare_checkout(project, project / "runs" / "other", Path("params/other.yaml"))
    (checkout / "outputs" / "first").mkdir(parents=True)
    (checkout / "outputs" / "first" / "out.txt").write_text("mine")
    (checkout / "dvc.lock").write_text("mine")
    (project / "new.py").write_text("new = 1\n")
    (project / "first.txt").write_text("9\n")
    (project / "third.txt").unlink()
    (project / "dvc.lock").write_text("the default's")
    subprocess.run("git -c user.name=t -c user.email=t commit -qam more".split(), cwd=project, check=True)
    prepare_checkout(project, checkout, Path("params/other.yaml"))
    assert (checkout / "new.py").exists() and (checkout / "first.txt").read_text() == "9\n"
    assert not (checkout / "third.txt").exists()
    assert (checkout / "dvc.lock").read_text() == "mine"
    assert (checkout / "outputs" / "first" / "out.txt").read_text() == "mine"
    heads = {subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder) for folder in (project, checkout)}
    assert len(heads) == 1


def test_checkout_takes_over_what_was_released_where_it_is_to_follow(tmp_path):
    project = make_project(tmp_path / "project")
    params = project / "params" / "other.yaml"
    checkout = prepare_checkout(project, project / "runs" / "other", params)
    (checkout / "dvc.lock").write_text("mine")
    (project / "dvc.lock").write_text("released")
    (project / "outputs" / "first").mkdir(parents=True)
    (project / "outputs" / "first" / "metrics.json").write_text("{}")
    prepare_checkout(project, checkout, params, follow=True)
    assert (checkout / "dvc.lock").read_text() == "released"
    assert (checkout / "outputs" / "first" / "metrics.json").read_text() == "{}"
    assert params_of(checkout) == params_of(project) | {"seed": 1}


def test_new_checkout_starts_with_what_was_released_of_its_params_file(tmp_path):
    project = make_project(tmp_path / "project")
    metrics = project / "data" / "released" / "other" / "outputs" / "first" / "metrics.json"
    metrics.parent.mkdir(parents=True)
    metrics.write_text("{}")
    (project / "data" / "released" / "other" / "dvc.lock").write_text("released")
    params = Path("params/other.yaml")
    checkout = prepare_checkout(project, project / "runs" / "mine", params)
    assert (checkout / "dvc.lock").read_text() == "released"
    assert (checkout / "outputs" / "first" / "metrics.json").read_text() == "{}"
    (checkout / "dvc.lock").write_text("mine")
    prepare_checkout(project, checkout, params)
    assert (checkout / "dvc.lock").read_text() == "mine"
    scratch = prepare_checkout(project, project / "runs" / "scratch", params, results=False)
    assert not (scratch / "dvc.lock").exists()


def test_overrides_change_the_params_of_the_checkout_alone(tmp_path):
    project = make_project(tmp_path / "project")
    params = project / "params" / "other.yaml"
    before = params.read_text()
    folder = project / "runs" / "other"
    prepare_checkout(project, folder, params, overrides={"editing.edit.steps": "7", "seed": "5"})
    content = params_of(folder)
    assert content["editing"]["edit"]["steps"] == 7 and content["seed"] == 5 and params.read_text() == before
    prepare_checkout(project, folder, params)
    assert params_of(folder) == params_of(project) | {"seed": 1}, "the next run has its own"
    for key in ("editing.edit.nothing", "seed.nothing", "nothing"):
        with pytest.raises(UserError, match=f"{key}=1: params.yaml has no such key"):
            prepare_checkout(project, folder, params, overrides={key: "1"})


def test_a_checkout_has_all_params_and_those_of_its_file_differ(tmp_path):
    project = make_project(tmp_path / "project")
    params, default = project / "params" / "other.yaml", params_of(project)
    params.write_text("seed: 1\nediting: {edit: {steps: 7}}\ngenerator: {start_from: null, kimg: 3}\n")
    content = params_of(prepare_checkout(project, project / "runs" / "other", params))
    assert content["editing"]["edit"] == default["editing"]["edit"] | {"steps": 7}
    assert content["generator"] == default["generator"] | {"kimg": 3}
    plain = prepare_checkout(project, project / "runs" / "plain", Path("params.yaml"))
    assert (plain / "params.yaml").read_text() == (project / "params.yaml").read_text()
    params.write_text("editing: {edit: {stpes: 7}}\n")
    with pytest.raises(UserError, match=r"other\.yaml: editing\.edit\.stpes: unknown key \(given 7\)"):
        prepare_checkout(project, project / "runs" / "other", params)


def test_checkout_is_there_once_it_is_whole(tmp_path, monkeypatch):
    """Killed while a checkout is made, the next start must not take what is there for results of its own."""
    project = make_project(tmp_path / "project")
    (project / "dvc.lock").write_text("the default's")
    folder = project / "runs" / "other"
    with monkeypatch.context() as patch:
        patch.setattr("flows.checkout._share_cache", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_checkout(project, folder, Path("params/other.yaml"))
    assert not folder.exists()
    (folder.with_name(".other.new") / "dvc.lock").write_text("half of it")
    prepare_checkout(project, folder, Path("params/other.yaml"))
    assert (folder / "dvc.lock").read_text() == "the default's"
    assert [path.name for path in folder.parent.iterdir()] == ["other"]


def test_params_bring_their_own_edits(tmp_path):
    """Another data set has other part classes."""
    project = make_project(tmp_path / "project")
    (project / "edits.yaml").write_text("the default's")
    (project / "params" / "edits").mkdir()
    (project / "params" / "edits" / "other.yaml").write_text("its own")
    for _ in range(2):
        checkout = prepare_checkout(project, project / "runs" / "other", Path("params/other.yaml"))
        assert (checkout / "edits.yaml").read_text() == "its own"
    plain = prepare_checkout(project, project / "runs" / "plain", Path("params.yaml"))
    assert (plain / "edits.yaml").read_text() == "the default's"
