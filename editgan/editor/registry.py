"""Registers the editor as an MLflow model. Only this module and `tracking` import mlflow."""

import tempfile
from pathlib import Path

from editgan.editor import served
from editgan.runtime import tracking


def register_editor(root: Path, name: str, run_id: str) -> str | None:
    """Log the editor of a folder of outputs to a run and register it, unless the newest version has the same files.

    The model contains the package's source code and the weights; nothing is pickled.

    Returns:
        the new version; None if nothing was registered: no change, or files are missing.
    Raises:
        the exceptions of the MLflow store.
    """
    outputs = root / "outputs"
    files = served.model_files(outputs)
    if files is None:
        return None
    client, _ = tracking.connect(root)
    from mlflow import pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Map, Schema

    tags = {"fingerprint": served.fingerprint(outputs, files)}
    found = client.search_model_versions(f"name='{name}'", order_by=["version_number DESC"], max_results=1)
    if found and found[0].tags.get("fingerprint") == tags["fingerprint"]:
        return None
    inputs = [
        ColSpec("string", "image"),
        ColSpec(Map("double"), "edits"),
        ColSpec("long", "refine", required=False),
        ColSpec("long", "steps", required=False),
    ]
    with tempfile.TemporaryDirectory() as folder:
        data, model = Path(folder) / "run", Path(folder) / "model"
        served.copy_run(outputs, files, data)
        pyfunc.save_model(
            str(model),
            loader_module=served.__name__,
            data_path=str(data),
            code_paths=[str(Path(served.__file__).parents[1])],
            signature=ModelSignature(Schema(inputs), Schema([ColSpec("string", "image")])),
            input_example=[served.example(outputs)],
            pip_requirements=served.requirements(),
        )
        client.log_artifacts(run_id, str(model), "model")
    try:
        client.create_registered_model(name)
    except MlflowException:  # already exists
        pass
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    return str(client.create_model_version(name, source, run_id, tags=tags).version)
