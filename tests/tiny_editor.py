"""An editor of networks of random weights, as fixtures for the tests of the editor and of its commands."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import SIDE, save_models
from torch import nn

from editgan.editing.vectors import EditingVector, save_vector
from editgan.editor import editor as editor_module
from editgan.editor.editor import Editor
from editgan.weights import save_tensors

NAMES = ["background", "skin", "nose", "hair"]
PALETTE = np.array([[0, 0, 0], [200, 150, 100], [250, 220, 10], [90, 60, 150]], np.uint8)


class Distance(nn.Module):
    """In the place of LPIPS and of the face network: pictures at half size, and their differences."""

    def forward(self, images):
        return self.features(images).flatten(1)

    def features(self, x):
        return nn.functional.avg_pool2d(x, 2)

    def distance(self, first, second):
        return (first - second).square().mean((1, 2, 3))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """A folder as the stages leave it."""
    root = tmp_path_factory.mktemp("models") / "outputs"
    save_models(root, NAMES, PALETTE)
    save_tensors(root / "assets" / "lpips_vgg.safetensors", {"nothing": torch.zeros(1)})
    for name, parts, scale in (("bigger_nose", ("nose",), 1.0), ("red_hair", ("hair",), 0.5)):
        delta = 0.3 * torch.randn(8, 16)
        save_vector(
            root / "editing" / "vectors" / f"{name}.safetensors",
            EditingVector(name=name, region_classes=parts, source="val/0", delta_w_plus=delta, scale=scale),
        )
    return root


@pytest.fixture(autouse=True)
def cheap_distance(monkeypatch):
    monkeypatch.setattr(editor_module, "load_network", lambda name, folder: Distance())
    monkeypatch.setattr(editor_module, "use_winograd", lambda network: network)


@pytest.fixture
def editor(outputs) -> Editor:
    return Editor.load(outputs, "cpu")


def photos(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    small = torch.randint(0, 256, (count, 3, 4, 4), generator=generator).float()
    return nn.functional.interpolate(small, size=SIDE, mode="bilinear").to(torch.uint8)


def painted(editor: Editor, label: int = 2) -> torch.Tensor:
    masks = editor.segment().clone()
    masks[:, 10:16, 8:14] = label
    return masks


SETTINGS = """
seed: 3
encoder: {inversion_steps: 7, inversion_lr: 0.05, kimg: 1}
editing:
  edit: {steps: 5, lr: 0.02}
  refine: {steps: 3, lr: 0.01}
  weights: {lpips: 5, mse: 2, ce: 1}
"""


@pytest.fixture
def run_outputs(outputs, tmp_path) -> Path:
    """The same networks as a run with a params file of its own."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "params.yaml").write_text(SETTINGS)
    (folder / "outputs").symlink_to(outputs)
    return folder / "outputs"
