"""Every stage once at its least allowed numbers: what is too small for the code is refused by the params, not later."""

import os
import shutil
import subprocess
import sys
from typing import get_args

import pytest
import yaml

from editgan.config import STAGES, Section, check_needs, load_params, read_params, section_class
from editgan.errors import UserError
from editgan.runtime.environment import PROJECT_ROOT

KEPT = {"recipe", "seed"}
STRENGTHS = {"editgan", "refined", "editgan_plus", "interfacegan", "localediting", "rho", "epsilon"}  # lists


def bounds(field) -> dict[str, float]:
    """The limits of a number by kind, of optional numbers too."""
    found = [*field.metadata, *(meta for part in get_args(field.annotation) for meta in getattr(part, "metadata", ()))]
    return {kind: getattr(one, kind) for one in found for kind in ("ge", "gt") if hasattr(one, kind)}


def least(section: type[Section], given: dict) -> dict:
    """The section with every number at its lower bound; above an open bound a thousandth of the given value."""
    values = dict(given)
    for name, field in section.model_fields.items():
        value = given.get(name)
        if isinstance(value, dict):
            values[name] = least(field.annotation, value)
        elif name in STRENGTHS and value:
            values[name] = value[:1]
        elif isinstance(value, int | float) and not isinstance(value, bool) and name not in KEPT:
            limits = bounds(field)
            assert limits, f"{name} has no lower bound"
            values[name] = limits["ge"] if "ge" in limits else limits["gt"] + value / 1000
    return values


def at_least(ci: dict, stage: str) -> dict:
    """The whole params with one section at its least numbers; others follow where they must not be larger."""
    whole = ci | {stage: least(section_class(stage), ci[stage])}
    if stage == "data":
        for name, key in (("segmentation", "labelled_images"), ("encoder", "val_images"), ("maskgan", "val_images")):
            whole[name] = whole[name] | {key: 1}
    elif stage == "benchmark":
        whole["report"] = {"heads": 1}
    elif stage in ("encoder", "generator"):
        widths = {key: 32 for key in ("channel_base", "d_channel_base") if key in whole[stage]}
        whole[stage] |= widths  # at least the resolution
    return whole


@pytest.fixture(scope="module")
def ci() -> dict:
    return read_params(PROJECT_ROOT / "params" / "ci.yaml")


@pytest.mark.parametrize("stage", STAGES)
def test_every_number_has_a_lower_bound_that_the_params_accept(ci, stage, tmp_path):
    whole = at_least(ci, stage)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(whole))
    load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [("data.test", 2), ("samples.images", 2), ("samples.path_pairs", 2), ("encoder.kimg", 0.0001)],
)
def test_numbers_that_no_stage_can_compute_with_are_refused(ci, tmp_path, key, value):
    section, name = key.split(".")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(ci | {section: ci[section] | {name: value}}))
    with pytest.raises(UserError, match=rf"{key}: .* \(given {value}\)"):
        load_params(tmp_path / "params.yaml")


def test_combinations_are_refused_for_the_stages_that_need_them(ci, tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(ci | {"data": ci["data"] | {"train": 60}}))
    params = load_params(tmp_path / "params.yaml")
    check_needs(params, ["data", "generator", "encoder"], "params.yaml")
    with pytest.raises(UserError, match="data.train 60: stage samples needs 2 times samples.images, 80") as caught:
        check_needs(params, STAGES, "params.yaml")
    assert "data.train 60: stage interfacegan needs interfacegan.condition_heads, 200" in str(caught.value)
    command = [sys.executable, "-m", "editgan", "samples"]
    shutil.copy(PROJECT_ROOT / "dvc.yaml", tmp_path)
    given = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True)
    assert done.returncode == 1 and "needs 2 times samples.images" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_every_stage_runs_at_its_least_numbers(ci, tmp_path, assets_dir):
    """Each stage runs as in ci.yaml, for those after it, and before that at its least numbers."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("dvc.yaml", "edits.yaml", "baseline", "data", "editgan"):
        (root / name).symlink_to(PROJECT_ROOT / name)
    (root / "outputs").mkdir()
    shutil.copytree(assets_dir, root / "outputs" / "assets")
    least_folder, tried = tmp_path / "least", []

    def run(stage: str, params: dict) -> subprocess.CompletedProcess:
        (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        command = [sys.executable, "-m", "editgan", stage]
        given = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")])}
        return subprocess.run(command, cwd=root, env=given, capture_output=True, text=True)

    for stage in STAGES[1:]:
        done = run(stage, at_least(ci, stage))
        said = done.stdout[-1500:] + done.stderr[-3000:]
        refused = done.returncode == 1 and "Traceback" not in done.stderr and done.stderr.strip()
        tried.append((stage, done.returncode, done.stderr.strip().splitlines()[-1:] if refused else ""))
        print(tried[-1], flush=True)
        assert done.returncode == 0 or (refused and "; " in done.stderr), f"{stage}: {said}"
        if (root / "outputs" / stage).exists():
            shutil.move(root / "outputs" / stage, least_folder / stage)
        done = run(stage, ci)
        assert done.returncode == 0, f"{stage} as in ci.yaml: {done.stdout[-1500:] + done.stderr[-3000:]}"
    assert sum(code == 0 for _, code, _ in tried) >= len(tried) - 2, tried
