"""The record in MLflow, read back through its own client; and a run that no MLflow can disturb."""

import json
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fake_project import copy_databases, wait_for
from PIL import Image

from editgan.runtime import tracking
from editgan.runtime.environment import PROJECT_ROOT, has_avx2, home_project, project_environment, tracking_uri
from flows.imported import import_run
from flows.summary import benchmark_note, run_record


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A store of this module's own, made once: its first use takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("store")
        patch.setenv("EDITGAN_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setattr(tracking, "artifact_folder", lambda root: folder / "artifacts")
        client, _ = tracking.connect(PROJECT_ROOT)
        yield client


def test_everything_said_stands_in_the_record(client, tmp_path):
    run = tracking.start_run("judges", work=tmp_path, params={"judges.batch": 8, "seed": 0}, tags={"stage": "judges"})
    run.log_metrics({"loss": 2.0}, step=0)
    run.log_metrics({"loss": 1.0, "G/loss r_t": 0.5}, step=1.5)  # kimg
    run.log_image(Image.new("RGB", (4, 4)), "fakes000001")
    run.log_text("| a |", "table.md")
    run.set_tag("colour", "blue")
    run.close()
    record = client.get_run(run.run_id)
    assert record.info.status == "FINISHED" and record.info.run_name == "judges"
    assert record.data.params == {"judges.batch": "8", "seed": "0"}
    assert record.data.tags["colour"] == "blue" and record.data.tags["stage"] == "judges"
    assert len(record.data.tags["mlflow.source.git.commit"]) == 40
    assert record.data.tags["git_dirty"] in {"true", "false"}
    curve = client.get_metric_history(run.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(0, 2.0), (1500, 1.0)]
    assert client.get_metric_history(run.run_id, "kimg")[0].value == 1.5
    files = [file.path for folder in ("", "images") for file in client.list_artifacts(run.run_id, folder)]
    assert {"table.md", "images/fakes000001.png"} <= set(files)


def test_experiment_is_one_of_model_development(client):
    """MLflow's page would otherwise guess its kind, and may open on traces."""
    kind = "mlflow.experimentKind"
    experiment = client.get_experiment_by_name("editgan")
    assert experiment.tags[kind] == "custom_model_development", "of a new experiment"
    client.set_experiment_tag(experiment.experiment_id, kind, "no_inferred_type")
    tracking.connect(PROJECT_ROOT)
    assert client.get_experiment_by_name("editgan").tags[kind] == "custom_model_development", "of an older one"


def test_note_names_the_run_of_the_benchmark_and_links_to_its_page(tmp_path):
    out = tmp_path / "outputs" / "benchmark"
    out.mkdir(parents=True)
    (out / "metrics.json").write_text("{}")
    record = {"run_id": "0123", "metrics": "99914b932bd37a50b983c5e7c90ae93b"}  # MD5 of {}
    (out / "run.json").write_text(json.dumps(record))
    assert benchmark_note(tmp_path, "sqlite:///mlflow.db", "1") == "Benchmark: 0123"
    note = benchmark_note(tmp_path, "http://127.0.0.1:5000/", "1")
    assert note == "Benchmark: [0123](http://127.0.0.1:5000/#/experiments/1/runs/0123)"


def test_dirty_means_changed_code_or_params(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], cwd=tmp_path, check=True)

    for name in ("params.yaml", "dvc.lock", "outputs/data/metrics.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "outputs/data/metrics.json").unlink()
    (tmp_path / "dvc.lock").write_text("2")
    assert tracking.git_tags(tmp_path)["git_dirty"] == "false"
    (tmp_path / "params.yaml").write_text("2")
    assert tracking.git_tags(tmp_path)["git_dirty"] == "true"


def test_run_stands_under_its_parent(client, monkeypatch):
    parent = tracking.start_run("pipeline")
    monkeypatch.setenv("MLFLOW_PARENT_RUN_ID", parent.run_id)
    child = tracking.start_run("data")
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id
    child.close()
    parent.close()


def test_resumed_run_continues(client, tmp_path):
    first = tracking.start_run("generator", work=tmp_path, params={"generator.batch": 8})
    first.log_metrics({"loss": 1.0}, step=1)
    time.sleep(0.2)
    first.close("KILLED")
    second = tracking.start_run("generator", work=tmp_path, params={"generator.batch": 8})
    assert second.run_id == first.run_id
    assert second.seconds >= 0.1  # the first attempt's time counts
    assert client.get_run(second.run_id).info.status == "RUNNING"
    second.log_metrics({"loss": 0.5}, step=2)
    second.close()
    assert len(client.get_metric_history(second.run_id, "loss")) == 2
    assert client.get_run(second.run_id).info.status == "FINISHED"


def test_newest_finished_run_is_found_by_its_tags(client):
    tags = {"stage": "encoder", "input_hash": "0123"}
    runs = [tracking.start_run("encoder", tags=tags) for _ in range(3)]
    for run, status in zip(runs, ("FINISHED", "FINISHED", "FAILED"), strict=True):
        run.close(status)
    assert tracking.newest_finished_run(PROJECT_ROOT, tags) == runs[1].run_id
    assert tracking.newest_finished_run(PROJECT_ROOT, tags | {"input_hash": "4567"}) is None


def test_run_of_a_killed_process_is_closed(client):
    code = (
        "import os; from editgan.runtime import tracking; run = tracking.start_run('encoder');"
        "print(run.run_id, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True)
    run_id = done.stdout.split()[-1]
    assert client.get_run(run_id).info.status == "RUNNING", done.stderr
    living = tracking.start_run("editing")
    assert client.get_run(run_id).info.status == "KILLED"
    another = tracking.start_run("editing")
    assert client.get_run(living.run_id).info.status == "RUNNING", "our own process is alive"
    living.close()
    another.close()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db"])
def test_unreachable_store_is_said_once_and_disturbs_nothing(uri, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EDITGAN_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    start = time.monotonic()
    run = tracking.start_run("data", work=tmp_path, params={"seed": 0})
    run.log_metrics({"loss": 1.0})
    run.log_image(Image.new("RGB", (4, 4)), "a.png")
    run.progress(1, 2, "images")
    run.close()
    assert capsys.readouterr().out.count("MLflow does not answer") == 1
    assert json.loads((tmp_path / tracking.RECORD_FILE).read_text())["run_id"] is None
    assert time.monotonic() - start < 30


def test_store_that_fails_midway_is_said_once_and_does_not_fail_the_stage(client, monkeypatch, capsys):
    run, asked = tracking.start_run("data"), []

    def broken(*arguments, **options):
        asked.append(arguments)
        raise OSError("the server is gone")

    monkeypatch.setattr(run._client, "log_text", broken)
    run.set_tag("before", "yes")
    run.log_text("a", "a.txt")
    run.log_text("b", "b.txt")
    run.set_tag("after", "yes")
    run.log_metrics({"loss": 1.0})
    run.close("FAILED")
    assert len(asked) == 1 and capsys.readouterr().out.count("the server is gone") == 1
    found = client.get_run(run.run_id)
    assert found.data.tags["before"] == "yes" and "after" not in found.data.tags and not found.data.metrics
    assert found.info.status == "FAILED", "the end of the run is tried all the same"


def test_store_that_is_gone_at_the_end_is_said_once(client, monkeypatch, capsys):
    run = tracking.start_run("data")

    def broken(*arguments, **options):
        raise OSError("the server is gone")

    for name in ("log_text", "set_terminated"):
        monkeypatch.setattr(run._client, name, broken)
    run.log_text("a", "a.txt")
    run.close()
    assert capsys.readouterr().out.count("the server is gone") == 1


def test_many_points_come_in_several_requests(client, monkeypatch):
    """MLflow takes at most a thousand of them in one."""
    run, sizes = tracking.start_run("data"), []
    send = run._client.log_batch
    monkeypatch.setattr(
        run._client, "log_batch", lambda run_id, metrics: (sizes.append(len(metrics)), send(run_id, metrics=metrics))
    )
    for step in range(300):
        run.log_metrics({f"loss{number}": 1.0 for number in range(5)}, step=step)
    run.close()
    assert sum(sizes) == 1500 and max(sizes) < 1000
    assert len(client.get_metric_history(run.run_id, "loss4")) == 300


def test_server_that_is_started_again_meanwhile_loses_nothing(monkeypatch, tmp_path):
    """MLflow's own HTTP requests wait for it, as the project's environment tells them."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(503 if len(asked) < 3 else 200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments):
            pass

    asked: list[bytes] = []
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    assert int(project_environment(PROJECT_ROOT)["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) > 1
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
    from mlflow import MlflowClient

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        run = tracking.offline_run("data")
        run.run_id, run._client = "a" * 32, MlflowClient(f"http://127.0.0.1:{server.server_address[1]}")
        run.set_tag("later", "yes")
        assert len(asked) == 3 and not run._lost
    finally:
        server.shutdown()
        server.server_close()


def test_offline_run_takes_everything():
    run = tracking.offline_run()
    run.log_metrics({"a": 1.0}, step=0.5)
    run.log_file("nothing.txt")
    run.progress(1, 1, "steps")
    run.close()
    assert run.run_id is None


def test_progress_lines_and_file(tmp_path, capsys):
    from editgan.runtime.progress import Progress

    path = tmp_path / "generator" / "progress.json"
    progress = Progress("generator", path)
    assert progress.update(0, 10.0, "kimg", "loss 1.1")
    assert not progress.update(5.0, 10.0, "kimg")  # too soon after the last line
    assert progress.update(10.0, 10.0, "kimg")
    report = json.loads(path.read_text())
    assert (report["stage"], report["done"], report["total"], report["unit"]) == ("generator", 10.0, 10.0, "kimg")
    assert capsys.readouterr().out.splitlines()[0] == "generator:   0%  0/10 kimg  loss 1.1"
    progress.update(1, 4, "images")  # another phase has an estimate of its own
    assert progress._eta(time.monotonic(), 1, 4) is None


def test_environment_stays_inside_and_telemetry_is_off(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
    monkeypatch.setenv("PIP_CACHE_DIR", "/elsewhere/pip")
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.delenv("no_proxy", raising=False)
    chosen = project_environment(PROJECT_ROOT)
    assert ("OPENBLAS_CORETYPE" in chosen) is has_avx2(), "rendered heads get the same bytes in every shell"
    assert chosen["no_proxy"] == chosen["NO_PROXY"] == "example.org,127.0.0.1,localhost", "our own servers, too"
    monkeypatch.setenv("no_proxy", "*")
    assert project_environment(PROJECT_ROOT)["no_proxy"] == "*"
    assert chosen["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false" and chosen["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert chosen["PIP_CACHE_DIR"] == "/elsewhere/pip", "what the caller has placed stays there"
    assert chosen["PREFECT_HOME"].startswith(str(home_project(PROJECT_ROOT)))


def test_inner_checkout_shares_the_store(tmp_path, monkeypatch):
    monkeypatch.delenv("EDITGAN_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    inner = tmp_path / "runs" / "ci"
    for root in (tmp_path, inner):
        (root / "editgan").mkdir(parents=True)
        (root / "dvc.yaml").touch()
    assert home_project(inner) == tmp_path
    assert tracking_uri(inner) == tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_output_made_elsewhere_gets_a_run(client, checkout):
    """What the store in the repository held: parameters, curves and pictures, under the pipeline that restored it."""
    out = checkout / "outputs" / "generator"
    shutil.copy(PROJECT_ROOT / "dvc.yaml", checkout)
    assets = [f"outputs/assets/{name}.safetensors" for name in ("lpips_vgg", "efflite1")]
    for path in (*assets, "outputs/data/recipe.json"):
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text("made")
    (out / "snapshots").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(out / "snapshots" / "fakes000004.png")
    (out / "metrics.json").write_text('{"kimg": 4.0}')
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "Ship it"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], check=True)
    shipped = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = [{"kimg": 2.0, "loss": 2.0}, {"kimg": 4.0, "loss": 1.5}]
    (out / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    parent = client.create_run("0").info.run_id
    run_id = import_run("generator", root=checkout, params_path=checkout / "params.yaml", parent_run_id=parent)
    record = client.get_run(run_id)
    assert record.info.status == "FINISHED" and record.info.run_name == "generator"
    assert record.data.tags["mlflow.source.git.commit"] == shipped
    assert record.data.tags["imported"] == "true" and record.data.tags["mlflow.parentRunId"] == parent
    assert record.data.params["seed"] == "0" and "generator.batch" in record.data.params
    assert [(p.step, p.value) for p in client.get_metric_history(run_id, "loss")] == [(2000, 2.0), (4000, 1.5)]
    files = {file.path for folder in ("", "images") for file in client.list_artifacts(run_id, folder)}
    assert {"metrics.json", "images/fakes000004.png"} <= files
    assert run_record(checkout, "generator")["run_id"] == run_id


def test_load_and_memory_of_the_machine_are_recorded(tmp_path, monkeypatch):
    """By MLflow's own monitor, which goes on counting where a resumed stage continues its run."""
    copy_databases(tmp_path)
    monkeypatch.setenv("EDITGAN_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    memory = "system/system_memory_usage_megabytes"
    client, _ = tracking.connect(tmp_path)
    steps = []
    for status in ("KILLED", "FINISHED"):
        run, known = tracking.start_run("data", root=tmp_path, work=tmp_path), len(steps)

        def more(run=run, known=known) -> bool:
            return len(client.get_metric_history(run.run_id, memory)) > known

        wait_for(more, 30, "load and memory are recorded")
        run.log_metrics({"loss": 1.0}, step=1)
        run.close(status)
        steps = [point.step for point in client.get_metric_history(run.run_id, memory)]
    assert len(set(steps)) == len(steps)
    found = client.get_run(run.run_id).data.metrics
    assert found["loss"] == 1.0 and found[memory] > 100 and 0 <= found["system/cpu_utilization_percentage"] <= 100
    assert not any(thread.name == "SystemMetricsMonitor" for thread in threading.enumerate())
