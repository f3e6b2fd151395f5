"""The nightly deployment of prefect.yaml, with an interval of seconds in the place of its cron line."""

import inspect
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from fake_project import environment, make_project, processes_in, wait_for

from editgan.runtime.environment import PROJECT_ROOT
from flows.pipeline import pipeline

SECONDS = 600  # half a minute on a machine with nothing else to do


def test_deployments_are_declared():
    content = yaml.safe_load((PROJECT_ROOT / "prefect.yaml").read_text())
    found = {deployment["name"]: deployment for deployment in content["deployments"]}
    assert set(found) == {"pipeline", "nightly-benchmark", "canary"}
    canary = found["canary"]["parameters"]
    assert (PROJECT_ROOT / canary["params"]).is_file() and canary["scratch"] and canary["force"] == []
    for deployment in found.values():
        assert set(deployment["parameters"]) <= set(inspect.signature(pipeline.fn).parameters)
    (schedule,) = found["nightly-benchmark"]["schedules"]
    assert re.fullmatch(r"\d+ \d+ \* \* \*", schedule["cron"]) and schedule["timezone"]
    assert found["nightly-benchmark"]["parameters"]["name"] == "nightly", "the default run stays untouched"
    assert found["nightly-benchmark"]["parameters"]["against_baseline"] is True
    for deployment in found.values():
        assert deployment["entrypoint"] == "flows/pipeline.py:pipeline"


@pytest.mark.slow
def test_nightly_deployment_fires_and_finishes(tmp_path):
    root = make_project(tmp_path / "project")
    declared = yaml.safe_load((root / "prefect.yaml").read_text())
    nightly = next(entry for entry in declared["deployments"] if entry["name"] == "nightly-benchmark")
    nightly["parameters"]["force"] = ["third"]  # this small project's last stage
    soon = datetime.now(UTC) + timedelta(seconds=30)  # the servers start in 15 seconds on an idle machine
    # An interval of 60 s: the next run is not due before this one was looked at.
    nightly["schedules"] = [{"interval": 60, "anchor_date": soon.isoformat(), "active": True}]
    declared["deployments"] = [nightly]
    (root / "prefect.yaml").write_text(yaml.safe_dump(declared))
    output = root / "nightly.log"
    with output.open("w") as log:
        command = [sys.executable, "-m", "flows.serve"]
        nightly_process = subprocess.Popen(command, cwd=root, env=environment(root), stdout=log, stderr=log)
    finished = re.compile(r"Flow run '.*' - Finished in state Completed")
    try:
        wait_for(
            lambda: finished.search(output.read_text()) or nightly_process.poll() is not None,
            SECONDS,
            "a scheduled run",
        )
        assert finished.search(output.read_text()), output.read_text()
        assert "`editgan accept` makes one" in output.read_text(), "it has no baseline yet"
        # looked at before the next run is due, which makes it anew
        assert (root / "runs" / "nightly" / "outputs" / "third" / "out.txt").exists(), output.read_text()
    finally:
        nightly_process.terminate()
        nightly_process.wait(60)
    assert not (root / "outputs").exists(), "the default run stays untouched"
    wait_for(lambda: not processes_in(root), 20, "worker, its flow and the servers are gone")
