"""The loaders of the published reference networks: their real tensor names and shapes, with random weights."""

import ast
import math
import os
import pickle
from pathlib import Path

import pytest
import torch

from editgan.assets import reference
from editgan.assets.networks.ir_se50 import IrSe50
from editgan.assets.params import AssetsParams
from editgan.assets.reference import load_ir_se50, load_reference_inception
from editgan.errors import UserError
from editgan.weights import sha256

NAMES_AND_SHAPES = Path(__file__).parent / "data" / "fid-inception-keys-and-shapes.tsv"


def inception_weights() -> dict[str, torch.Tensor]:
    """Random weights under the 566 names of the published file; variances positive, convolutions scaled by fan-in."""
    weights = {}
    for line in NAMES_AND_SHAPES.read_text().splitlines():
        name, shape = line.split("\t")
        shape = ast.literal_eval(shape)
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.zeros((), dtype=torch.int64)
        elif name.endswith("running_var") or name.endswith("bn.weight"):
            weights[name] = torch.ones(shape)
        elif len(shape) > 1:
            weights[name] = torch.randn(shape) * (2 / math.prod(shape[1:])) ** 0.5
        else:
            weights[name] = torch.zeros(shape)
    return weights


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(inception_weights(), path)
    return path


def test_inception_takes_the_published_file(inception_file):
    network = load_reference_inception(inception_file, sha256(inception_file))
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    features = network(images)
    assert features.shape == (2, 2048) and torch.isfinite(features).all() and features.std() > 0
    torch.testing.assert_close(network(images[1:]), features[1:], atol=1e-4, rtol=1e-3)
    state = torch.load(inception_file, weights_only=True)
    held = network.extractor.state_dict()
    assert state.keys() == held.keys()
    assert all(torch.equal(held[name], tensor) for name, tensor in state.items())


def test_inception_of_another_shape_is_refused(inception_file, tmp_path):
    weights = torch.load(inception_file, weights_only=True)
    weights["fc.weight"] = weights["fc.weight"][:1000]  # torchvision's Inception has 1,000 classes, FID's has 1,008
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(UserError, match="(?s)other.pth: not the Inception network of FID.*fc.weight"):
        load_reference_inception(tmp_path / "other.pth")


def test_altered_and_missing_files_are_told(inception_file, tmp_path):
    with pytest.raises(UserError, match=f"expected sha256 {'0' * 64}, found {sha256(inception_file)}"):
        load_reference_inception(inception_file, "0" * 64)
    with pytest.raises(UserError, match="nowhere.pth: no such file"):
        load_ir_se50(tmp_path / "nowhere.pth")


def test_a_path_needs_its_hash_and_is_relative_to_the_project(inception_file, monkeypatch):
    with pytest.raises(ValueError, match="ir_se50 needs ir_se50_sha256.*sha256sum mine.pth"):
        AssetsParams(ir_se50="mine.pth")
    monkeypatch.setattr(reference, "home_project", lambda: inception_file.parent)
    assert reference.read_state_dict(inception_file.name, sha256(inception_file))


def test_files_that_would_run_code_are_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Attack(), 2))
    with pytest.raises(UserError, match="bad.pth: not a plain state dict"):
        load_reference_inception(tmp_path / "bad.pth")
    torch.save({"a": Attack()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="bad.pth: not a plain state dict"):
        load_ir_se50(tmp_path / "bad.pth")
    assert not (tmp_path / "harm").exists()


def test_ir_se50_has_the_published_layout(tmp_path):
    """InsightFace_Pytorch's model_ir_se50.pth: 43.8 million parameters under these names."""
    network = IrSe50()
    state = network.state_dict()
    assert sum(parameter.numel() for parameter in network.parameters()) == 43_797_696
    expected = {
        "input_layer.0.weight": (64, 3, 3, 3),
        "input_layer.2.weight": (64,),
        "body.0.res_layer.1.weight": (64, 64, 3, 3),
        "body.0.res_layer.5.fc1.weight": (4, 64, 1, 1),
        "body.3.shortcut_layer.0.weight": (128, 64, 1, 1),
        "body.23.res_layer.5.fc2.weight": (512, 32, 1, 1),
        "output_layer.0.weight": (512,),
        "output_layer.3.weight": (512, 512 * 7 * 7),
        "output_layer.4.running_var": (512,),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected
    assert "body.0.shortcut_layer.0.weight" not in state and "body.24.res_layer.0.weight" not in state

    torch.save({name: tensor.half() for name, tensor in state.items()}, tmp_path / "model_ir_se50.pth")
    loaded = load_ir_se50(tmp_path / "model_ir_se50.pth")
    with torch.no_grad():
        features = loaded(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert features.shape == (2, 512)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
