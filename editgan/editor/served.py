"""The editor as an MLflow model: pictures and edit strengths in, edited pictures out.

MLflow loads it by the name of this module and passes a folder with the files of a run: stage outputs, and a params.yaml
with the editor's settings. Weights are safetensors; nothing is unpickled. The model includes the source of this module.
"""

import base64
import binascii
import hashlib
import io
import shutil
import threading
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from editgan.errors import Unusable, UserError
from editgan.runtime.graph import content_hash

if TYPE_CHECKING:
    from editgan.data.photo import Photo

VECTORS = "editing/vectors"
MOST_STEPS = 1000  # limit for embedding and for refinement, because requests are answered one at a time
PACKAGES = (
    "torch", "torchvision", "torch-fidelity", "torchmetrics", "matplotlib", "numpy", "pillow", "psutil", "pydantic",
    "pyyaml", "safetensors", "scipy",
)  # fmt: skip


class ServedEditor:
    """The object that `mlflow.pyfunc.load_model` wraps."""

    def __init__(self, outputs: str | Path, device: str = "auto") -> None:
        from editgan.editor.editor import Editor

        self.editor = Editor.load(outputs, device)
        self._turn = threading.Lock()  # the editor is stateful, and servers call it from several threads

    def predict(self, table: Any, params: Mapping[str, Any] | None = None) -> list[dict[str, str]]:
        """Return one edited picture per row, as base64 PNG.

        Args:
            table: data frame with the columns image (a picture file as base64), edits (strengths by name), refine
                (steps of refinement, default 0) and steps (steps of embedding, default: the run's)
        Raises:
            UserError: an invalid picture, one of another size, unknown edits or no edits.
        """
        with self._turn:
            return [self._edited(row) for row in table.to_dict("records")]

    def _edited(self, row: Mapping[str, Any]) -> dict[str, str]:
        from editgan.data.photo import Photo

        try:
            content = base64.b64decode(row["image"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise UserError("`image` is not a base64-encoded picture file") from None
        if not isinstance(row["edits"], Mapping):
            raise UserError("`edits` is not an object of strengths by name")
        steps, refine = _count(row, "steps"), _count(row, "refine") or 0
        picture = _decoded(content, self.editor.G.img_resolution)
        self.editor.set_image(picture.seen(), steps=steps)
        edited = self.editor.apply(dict(row["edits"]), refine=refine)
        return {"image": encoded(Photo(edited.images[0], picture.alpha).to_pil())}


def _load_pyfunc(data_path: str) -> ServedEditor:
    """MLflow's hook for models that are loaded by module name."""
    return ServedEditor(Path(data_path) / "outputs")


def _count(row: Mapping[str, Any], column: str) -> int | None:
    """An optional integer column; None if it is missing or NaN."""
    value = row.get(column)
    if value is None or value != value:
        return None
    if not (isinstance(value, Real) and 0 <= value <= MOST_STEPS and value == int(value)):
        raise UserError(f"`{column}` is {value!r}; give a whole number from 0 to {MOST_STEPS}")
    return int(value)


def _decoded(content: bytes, resolution: int) -> "Photo":
    """A picture of exactly the model's size, which is checked before decoding; remarks are logged as warnings."""
    from editgan.data.photo import decode_photo

    try:
        photo = decode_photo(io.BytesIO(content), side=resolution)
    except Unusable as reason:
        raise UserError(f"`image` {reason}") from None
    for note in photo.notes:
        warnings.warn(f"`image` {note}", stacklevel=2)
    return photo


def encoded(image: Any) -> str:
    """A PIL image as base64 PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def model_files(outputs: Path) -> list[str] | None:
    """Paths of the editor's files, relative to `outputs`; None if one is missing or there is no vector yet."""
    from editgan.editor.networks import MODELS  # imports torch, so flows import it as late as possible

    vectors = sorted(path.relative_to(outputs).as_posix() for path in (outputs / VECTORS).glob("*.safetensors"))
    files = [*MODELS, *vectors]
    return files if vectors and all((outputs / name).is_file() for name in files) else None


def fingerprint(outputs: Path, files: list[str]) -> str:
    """One hash over the settings, and over all files and their names."""
    lines = [_settings(outputs), *(f"{name} {content_hash(outputs / name)}" for name in files)]
    return hashlib.md5("\n".join(lines).encode()).hexdigest()


def copy_run(outputs: Path, files: list[str], folder: Path) -> None:
    """Copy the files to FOLDER/outputs, and write the settings to FOLDER/params.yaml."""
    for name in files:
        copy = folder / "outputs" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(outputs / name, copy)
    (folder / "params.yaml").write_text(_settings(outputs))


def _settings(outputs: Path) -> str:
    """The editor's part of the run's params file."""
    from editgan.editor.settings import run_settings

    return yaml.safe_dump(run_settings(outputs).model_dump(), sort_keys=False)


def example(outputs: Path) -> dict[str, Any]:
    """A valid request for this editor: a grey picture of its size and one of its edits."""
    from PIL import Image

    from editgan.weights import load_tensors

    side = load_tensors(outputs / "generator/G_ema.safetensors")[1]["config"]["img_resolution"]
    edit = min(path.stem for path in (outputs / VECTORS).glob("*.safetensors"))
    picture = Image.new("RGB", (side, side), (128, 128, 128))
    return {"image": encoded(picture), "edits": {edit: 1.0}, "refine": 0, "steps": 0}


def requirements() -> list[str]:
    return [f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES]
