"""Segmentations of another generator of equal size: told by the recorded hash, or by the statistics of S."""

# ruff: noqa: F811  fixtures are imported by name

import shutil

import pytest
import torch
from tiny_editor import outputs  # noqa: F401
from tiny_models import SIDE

from editgan.editor.loading import find
from editgan.editor.origin import LEAST_BATCHES
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.segmentation.ensemble import SegmentationEnsemble, load_segmentation, save_segmentation
from editgan.segmentation.pixels import full_feature_stack
from editgan.weights import load_tensors, save_tensors


@pytest.fixture
def mixed(outputs, tmp_path):
    """A folder of outputs whose files may be replaced."""
    shutil.copytree(outputs, tmp_path / "outputs", symlinks=True)
    return tmp_path / "outputs"


@torch.no_grad()
def trained(S: SegmentationEnsemble, G: Generator) -> SegmentationEnsemble:
    """S with the statistics that training on samples of G gives its first layer."""
    z = torch.randn(64, G.z_dim, generator=torch.Generator().manual_seed(5))
    stack = full_feature_stack(G.synthesis_features(G.mapping(z))[1], SIDE)  # [64, C, h, w]
    hidden = torch.einsum("nchw,mdc->mdnhw", stack, S.weight1).flatten(2) + S.bias1[:, :, None]
    S.norm1.running_mean.copy_(hidden.relu().mean(2).flatten())
    S.norm1.running_var.copy_(hidden.relu().var(2).flatten())
    S.norm1.num_batches_tracked += LEAST_BATCHES
    return S


def test_statistics_tell_a_segmentation_of_another_generator(mixed, recwarn):
    G, path = load_generator(mixed / "generator/G_ema.safetensors"), mixed / "segmentation/S.safetensors"
    save_segmentation(path, trained(load_segmentation(path), G))
    find(mixed).load(torch.device("cpu"), None)
    assert not [one for one in recwarn if "another generator" in str(one.message)]
    torch.manual_seed(9)
    other = Generator(**G.config)
    with torch.no_grad():
        for weight in other.synthesis.parameters():
            weight *= 2
    save_segmentation(path, trained(load_segmentation(path), other))
    with pytest.warns(UserWarning, match="S.safetensors: was probably trained with another generator than .*G_ema"):
        find(mixed).load(torch.device("cpu"), None)


def test_recorded_hash_of_another_generator_is_refused(mixed):
    path = mixed / "segmentation/S.safetensors"
    tensors, metadata = load_tensors(path)
    save_tensors(path, tensors, metadata | {"generator": "0" * 64})
    with pytest.raises(UserError, match="S.safetensors: was made with another generator than .*G_ema"):
        find(mixed).load(torch.device("cpu"), None)
