"""Segmentations of another generator of equal size: told by the recorded hash."""

# ruff: noqa: F811  fixtures are imported by name

import shutil

import pytest
import torch
from tiny_editor import outputs  # noqa: F401

from editgan.editor.loading import find
from editgan.errors import UserError
from editgan.weights import load_tensors, save_tensors


@pytest.fixture
def mixed(outputs, tmp_path):
    """A folder of outputs whose files may be replaced."""
    shutil.copytree(outputs, tmp_path / "outputs", symlinks=True)
    return tmp_path / "outputs"


def test_recorded_hash_of_another_generator_is_refused(mixed):
    path = mixed / "segmentation/S.safetensors"
    tensors, metadata = load_tensors(path)
    save_tensors(path, tensors, metadata | {"generator": "0" * 64})
    with pytest.raises(UserError, match="S.safetensors: was made with another generator than .*G_ema"):
        find(mixed).load(torch.device("cpu"), None)
