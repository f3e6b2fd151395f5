"""Files of other programs that are damaged or made to do harm: one line says so, and nothing in them is run."""

# ruff: noqa: F811  fixtures are imported by name

import io
import pickle
import zipfile

import foreign_files as files
import numpy as np
import pytest
import torch
from test_foreign import SIDE, modules, nvidia, nvidia_module, refused, rosinality, tensorflow  # noqa: F401

from editgan.errors import UserError
from editgan.generator.foreign.files import read_networks


class Evil:
    """Its pickle would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return io.open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_does_not(tmp_path, protocol):
    target = tmp_path / "created"
    for content in (Evil(target), {"G_ema": Evil(target)}, {"training_set_kwargs": Evil(target), "G_ema": 3}):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        refused(tmp_path / "x.pkl", r"the file asks for '_?io.open', which a network does not need; nothing was run")
    torch.save({"g_ema": Evil(target)}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "nothing was run")
    G = files.nvidia_generator()
    G.synthesis.hook = Evil(target)
    torch.save(G, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "nothing was run")
    assert not target.exists()


def test_instructions_that_call_otherwise_are_refused(tmp_path):
    for program in (b"cos\nsystem\n.", b"(S'echo'\nios\nsystem\n.", b"(cos\nsystem\nS'echo'\no.", b"\x80\x02\x82\x01."):
        (tmp_path / "x.pkl").write_bytes(program)
        refused(tmp_path / "x.pkl", "asks for 'os.system'|the pickle instruction")
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04]r\xff\xff\xff\xff.")  # a memo of 2**32 entries
    refused(tmp_path / "x.pkl", "has no network")
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"abc.")
    refused(tmp_path / "x.pkl", "damaged")
    objects = pickle.dumps((np.array([{}], dtype=object), 1, 2))
    (tmp_path / "x.pkl").write_bytes(objects)
    refused(tmp_path / "x.pkl", "array that does not hold numbers|instead of numbers")


def test_nested_keys_do_not_end_the_program(tmp_path):
    """Python hashes tuples in tuples without a limit of depth."""
    deep = b"\x85" * 10**6
    for program in (b"})" + deep + b"K\x01s.", b"\x8f()" + deep + b"\x90.", b"cbuiltins\nset\n()" + deep + b"l\x85R."):
        (tmp_path / "x.pkl").write_bytes(b"\x80\x04" + program)
        refused(tmp_path / "x.pkl", "a key that is not text or a number")


def test_names_in_a_file_cannot_control_the_terminal(tmp_path):
    state = files.rosinality_generator() | {"x\ny\x1b[31m" + 9000 * "z": torch.ones(1)}
    torch.save({"g_ema": state}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"unknown weights x y\?\[31m") as caught:
        read_networks(tmp_path / "x.pt")
    assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()


def test_other_ways_of_saving_a_network_are_read_or_named(tmp_path):
    torch.save(files.nvidia_generator(), tmp_path / "x.pt", pickle_protocol=4)
    assert read_networks(tmp_path / "x.pt").G_ema.img_resolution == SIDE
    torch.save(files.nvidia_generator(), tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "x.pt", "torch's format before 1.6")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "is a TorchScript program")


def test_compressed_entries_are_refused(tmp_path):
    """A small zip could expand to any size."""
    nvidia_module(tmp_path / "x.pt")
    with (
        zipfile.ZipFile(tmp_path / "x.pt") as whole,
        zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for name in whole.namelist():
            made.writestr(name, whole.read(name))
    refused(tmp_path / "y.pt", "compressed")


FLIPPED = {"nvidia .pkl": nvidia, "nvidia torch.save": nvidia_module, "tensorflow .pkl": tensorflow,
           "rosinality training": rosinality, "old": lambda path: rosinality(path, old=True)}  # fmt: skip


@pytest.mark.parametrize("flips", [20, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FLIPPED)
def test_damaged_files_give_one_line(tmp_path, name, flips):
    """Flipped bytes, half of them in the first and last kilobytes, where the structure is."""
    path = tmp_path / "file"
    FLIPPED[name](path)
    whole, rng, failed = path.read_bytes(), np.random.default_rng(0), 0
    near = np.r_[rng.integers(0, 4000, flips // 4), len(whole) - 1 - rng.integers(0, 4000, flips // 4)]
    for place in [*near, *rng.integers(0, len(whole), flips // 2)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read_networks(path)
        except UserError as error:
            assert "\n" not in str(error) and str(error).startswith(f"{path}: "), place
            failed += 1
    assert failed > flips // 20, "the others changed a weight"
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "damaged|lacks")
