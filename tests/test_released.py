"""Released runs of other params files (data/released): what a new checkout of them restores instead of training."""

import hashlib
import json
from functools import reduce
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from editgan.config import read_params
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.graph import load_graph
from flows.checkout import RELEASED

NAMES = sorted(path.parent.name for path in (PROJECT_ROOT / RELEASED).glob("*/dvc.lock"))
STORE = PROJECT_ROOT / "data" / "store" / "files" / "md5"


def locked(name: str) -> dict:
    return YAML(typ="safe", pure=True).load((PROJECT_ROOT / RELEASED / name / "dvc.lock").read_text())["stages"]


def trained(lock: dict) -> list[str]:
    return [stage for stage in lock if stage not in ("assets", "data")]


def stored(md5: str) -> Path:
    return STORE / md5[:2] / md5[2:]


@pytest.mark.parametrize("name", NAMES)
def test_released_run_is_of_the_committed_params(name):
    """So none of its trained stages is stale in a new checkout."""
    params = read_params(PROJECT_ROOT / "params" / f"{name}.yaml", PROJECT_ROOT / "params.yaml")
    graph, lock = load_graph(PROJECT_ROOT / "dvc.yaml"), locked(name)
    for stage in trained(lock):
        wanted = {key: reduce(dict.__getitem__, key.split("."), params) for key in lock[stage]["params"]["params.yaml"]}
        assert lock[stage]["params"]["params.yaml"] == wanted, stage
        assert [item["path"] for item in lock[stage]["deps"]] == sorted(graph[stage].deps)


@pytest.mark.parametrize("name", NAMES)
def test_store_has_every_output_of_a_released_run(name):
    lock, folder = locked(name), PROJECT_ROOT / RELEASED / name
    for stage in trained(lock):
        for item in lock[stage]["outs"]:
            metrics = folder / item["path"]
            if metrics.name == "metrics.json":
                assert hashlib.md5(metrics.read_bytes()).hexdigest() == item["md5"], metrics
                continue
            assert stored(item["md5"]).is_file(), item["path"]
            if item["md5"].endswith(".dir"):
                for one in json.loads(stored(item["md5"]).read_text()):
                    assert stored(one["md5"]).is_file(), one["relpath"]


@pytest.mark.parametrize("name", NAMES)
def test_released_run_is_of_one_run(name):
    """What a stage depended on is what another one left."""
    lock = locked(name)
    made = {item["path"]: item["md5"] for entry in lock.values() for item in entry["outs"]}
    for stage in trained(lock):
        for item in lock[stage]["deps"]:
            assert made.get(item["path"], item["md5"]) == item["md5"], (stage, item["path"])
