"""The editor as a registered model of MLflow: what becomes a version, and a version that is served over HTTP."""

import base64
import io
import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fake_project import copy_databases, wait_for
from mlflow.models import ModelSignature
from PIL import Image
from tiny_models import SIDE, save_models

from editgan.assets.load import build
from editgan.editing.vectors import EditingVector, save_vector
from editgan.editor import served
from editgan.editor.editor import Editor
from editgan.editor.registry import register_editor
from editgan.editor.settings import EmbeddingSettings, run_settings
from editgan.errors import UserError
from editgan.images import to_pil
from editgan.runtime import tracking
from editgan.runtime.environment import answers
from editgan.weights import save_tensors
from flows import processes, serve

NAMES = ["background", "nose"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A project with an editor of random weights, its source and an empty record."""
    root = tmp_path_factory.mktemp("served") / "project"
    outputs = root / "outputs"
    save_models(outputs, NAMES, np.eye(2, 3, dtype=np.uint8))
    trunk = build("lpips_vgg").model.net.state_dict()
    trunk = {name: torch.randn_like(value) / value[0].numel() ** 0.5 for name, value in trunk.items()}
    save_tensors(outputs / "assets" / "lpips_vgg.safetensors", trunk)
    add_vector(root, "bigger_nose")
    copy_databases(root)
    return root


def add_vector(root: Path, name: str) -> None:
    vector = EditingVector(name=name, region_classes=("nose",), source="val/0", delta_w_plus=0.3 * torch.randn(8, 16))
    save_vector(root / "outputs" / "editing" / "vectors" / f"{name}.safetensors", vector)


@pytest.fixture
def uri(root, monkeypatch) -> str:
    uri = f"sqlite:///{root / 'mlflow.db'}"
    monkeypatch.setenv("EDITGAN_TRACKING_URI", uri)
    return uri


@pytest.fixture
def version(root, uri) -> str:
    """The editor, registered if it is not."""
    run = tracking.start_run("pipeline", root=root)
    register_editor(root, "editgan", run.run_id)
    run.close()
    client, _ = tracking.connect(root)
    return str(client.search_model_versions("name='editgan'", order_by=["version_number DESC"])[0].version)


def test_new_version_only_where_files_have_changed(root, uri, version):
    run = tracking.start_run("pipeline", root=root)
    assert register_editor(root, "editgan", run.run_id) is None
    add_vector(root, "other_nose")
    assert register_editor(root, "editgan", run.run_id) == str(int(version) + 1)
    assert register_editor(root, "editgan-ci", run.run_id) == "1", "another checkout has versions of its own"
    (root / "outputs" / "editing" / "vectors" / "other_nose.safetensors").unlink()
    run.close()
    empty = root / "nothing" / "outputs"
    empty.mkdir(parents=True)
    assert served.model_files(empty) is None, "an editor that is not whole"


def test_model_has_the_settings_of_its_run(root, uri, version):
    run = tracking.start_run("pipeline", root=root)
    (root / "params.yaml").write_text("encoder: {inversion_steps: 7, inversion_lr: 0.05}\n")
    changed = register_editor(root, "editgan", run.run_id)
    (root / "params.yaml").unlink()
    run.close()
    assert int(changed) > int(version)
    client, _ = tracking.connect(root)
    folder = Path(client.download_artifacts(run.run_id, "model"))
    (outputs,) = folder.glob("data/*/outputs")
    assert run_settings(outputs).encoder == EmbeddingSettings(inversion_steps=7, inversion_lr=0.05)


def test_model_holds_signature_example_source_and_no_pickle(root, uri, version):
    client, _ = tracking.connect(root)
    one = client.get_model_version("editgan", version)
    folder = Path(client.download_artifacts(one.run_id, "model"))
    described = (folder / "MLmodel").read_text()
    assert "loader_module: editgan.editor.served" in described and "python_version" in described
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"G_ema.safetensors", "served.py", "requirements.txt"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".bin", ".pyc")]
    (row,) = json.loads((folder / "serving_input_example.json").read_text())["inputs"]
    assert set(row) == {"image", "edits", "refine", "steps"} and row["edits"] == {"bigger_nose": 1.0}
    columns = ModelSignature.from_dict(yaml.safe_load(described)["signature"]).inputs
    assert columns.input_names() == list(row) and columns.required_input_names() == ["image", "edits"]


def request(url: str, rows: list[dict]) -> list[dict]:
    body = json.dumps({"dataframe_records": rows}).encode()
    asked = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as reply:
        return json.loads(reply.read())["predictions"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"image": None}, "not a base64-encoded picture"),
        ({"image": "####"}, "not a base64-encoded picture"),
        ({"image": base64.b64encode(b"GIF89a").decode()}, "`image` cannot be read as an image"),
        ({"edits": None}, "not an object of strengths"),
        ({"steps": float("inf")}, "`steps` is inf; give a whole number"),
        ({"edits": {"bigger_nose": "1"}}, "the strength of bigger_nose is '1'; give a finite number"),
        ({"steps": 0.7}, "whole number"),
        ({"steps": "2"}, "`steps` is '2'; give a whole number"),
        ({"refine": 1e9}, "from 0 to 1000"),
    ],
)
def test_bad_requests_are_refused_in_a_sentence(root, change, fault):
    row = served.example(root / "outputs") | change
    with pytest.raises(UserError, match=fault):
        served.ServedEditor(root / "outputs", "cpu").predict(pd.DataFrame([row]))


def test_large_pictures_are_refused_by_their_header(root, monkeypatch):
    buffer = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, format="PNG")
    assert len(buffer.getvalue()) < 200_000
    row = served.example(root / "outputs") | {"image": base64.b64encode(buffer.getvalue()).decode()}
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UserError, match="exceeds limit|is 30000x30000|is too large; the limit is 64 million pixels"):
        served.ServedEditor(root / "outputs", "cpu").predict(pd.DataFrame([row]))


def test_version_is_served_over_http(root, uri, version):
    port = serve.free_port(21000)
    url = f"http://127.0.0.1:{port}"
    command = ["python", "-m", "mlflow", "models", "serve", "--model-uri", f"models:/editgan/{version}"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environment = {"MLFLOW_TRACKING_URI": uri}
    process = processes.start(command, root=root.parent, environment=environment)
    try:
        wait_for(lambda: answers(f"{url}/ping") or process.poll() is not None, 200, "the model is served")
        pixels = torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8)
        picture = served.encoded(to_pil(pixels))
        rows = [
            {"image": picture, "edits": {"bigger_nose": strength}, "refine": refine, "steps": 2}
            for strength, refine in ((0.0, 0), (1.5, 0), (1.5, 2))
        ]
        pictures = [np.array(Image.open(io.BytesIO(base64.b64decode(row["image"])))) for row in request(url, rows)]
        with pytest.raises(urllib.error.HTTPError) as refused:
            request(url, [{"image": picture, "edits": {"none": 1.0}}])
        assert refused.value.code == 400, "the reason stands in the server's log"
    finally:
        processes.stop(process)
    editor = Editor.load(root / "outputs", "cpu")
    editor.set_image(pixels, steps=2)
    for row, shown in zip(rows, pictures, strict=True):
        expected = editor.apply(row["edits"], refine=row["refine"]).images[0].permute(1, 2, 0).numpy()
        assert np.abs(expected.astype(int) - shown).max() <= 1
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 5, "strength matters"
