import errno
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from editgan import weights
from editgan.errors import UserError

SAVE_IN_ANOTHER_PROCESS = """
import sys, torch
from editgan import weights
tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(2)}
weights.save_tensors(sys.argv[1], tensors, {"z": 1, "y": [2, "x"], "k": {"q": 0}})
"""


class Scale(nn.Module):
    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.arange(float(size)))


def test_two_processes_write_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        subprocess.run([sys.executable, "-c", SAVE_IN_ANOTHER_PROCESS, tmp_path / name], check=True)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    tensors, metadata = weights.load_tensors(tmp_path / "first")
    assert tensors["b"].tolist() == [[0, 1, 2], [3, 4, 5]] and metadata == {"z": 1, "y": [2, "x"], "k": {"q": 0}}


def test_module_is_rebuilt_from_its_own_file(tmp_path):
    path = weights.save_module(tmp_path / "m.safetensors", Scale(size=4), {"size": 4})
    module = weights.load_module(path, Scale)
    assert module.gain.tolist() == [0, 1, 2, 3] and not module.training and not module.gain.requires_grad


def test_module_is_kept_in_half_precision_and_computes_in_single(tmp_path):
    module = Scale(size=3)
    module.gain.data += 1 / 3
    path = weights.save_module(tmp_path / "m.safetensors", module, {"size": 3})
    tensors, _ = weights.load_tensors(path)
    assert tensors["gain"].dtype == torch.float16
    gain = weights.load_module(path, Scale).gain
    assert gain.dtype == torch.float32 and torch.equal(gain, module.gain.half().float())
    for bad in (float("nan"), 7e4):
        module.gain.data[1] = bad
        with pytest.raises(UserError, match="m.safetensors: not written, because gain contains NaN or values"):
            weights.save_module(path, module, {"size": 3})
    assert weights.load_module(path, Scale).gain.isfinite().all()


def test_errors_name_the_file_and_the_remedy(tmp_path):
    with pytest.raises(UserError, match="absent.*dvc"):
        weights.load_tensors(tmp_path / "absent")
    path = weights.save_module(tmp_path / "m.safetensors", Scale(size=4), {"size": 4})
    with pytest.raises(UserError, match="'Scale'.*'Linear'"):
        weights.load_module(path, nn.Linear)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="m.safetensors: damaged"):
        weights.load_module(path, Scale)
    weights.save_module(path, Scale(size=4), {"size": 5})
    with pytest.raises(UserError, match="does not match"):
        weights.load_module(path, Scale)


def test_full_disk_leaves_the_previous_file_whole(tmp_path, monkeypatch):
    path = weights.write_bytes(tmp_path / "state", b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        weights.write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_json_is_sorted_and_refuses_nan(tmp_path):
    path = weights.write_json(tmp_path / "m.json", {"b": 1, "a": 2})
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    with pytest.raises(ValueError):
        weights.write_json(path, {"a": float("nan")})
