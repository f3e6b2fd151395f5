"""Stage `generator` with the networks of a file; training on from imported networks."""

from types import SimpleNamespace

import foreign_files as files
import pytest
import torch
from tiny_generator import PARAMS, STYLEGAN2

from editgan.errors import UserError
from editgan.generator import stage
from editgan.generator.discriminator import Discriminator
from editgan.generator.foreign.files import import_generator
from editgan.generator.generator import Generator, load_generator
from editgan.generator.origin import load_origin
from editgan.generator.params import GeneratorParams
from editgan.runtime.stage import StageContext
from editgan.runtime.tracking import offline_run
from editgan.weights import load_metadata, load_tensors, sha256, tensors_equal

SIDE = 32


@pytest.fixture
def written(tmp_path):
    """Writes a .pkl; `D`: with a discriminator."""

    def write(D=True, clamp=None):
        with files.foreign_modules():
            torch.manual_seed(1)
            network = files.nvidia_discriminator(side=SIDE, clamp=clamp, group=None) if D else None
            files.write_nvidia(tmp_path / "G.pkl", files.nvidia_generator(side=SIDE, clamp=clamp), network)
        return tmp_path / "G.pkl"

    return write


def context(root, resolution=SIDE, **changes):
    given = PARAMS | dict(from_file="G.pkl") | changes
    params = SimpleNamespace(generator=GeneratorParams(**given), resolution=resolution, seed=0)
    out = root / "outputs" / "generator"
    out.mkdir(parents=True, exist_ok=True)
    return StageContext(
        name="generator", params=params, root=root, out=out, work=root, run=offline_run(), device=torch.device("cpu")
    )


@pytest.mark.parametrize("D", [True, False])
def test_outputs_are_those_of_a_trained_generator(tmp_path, written, D):
    path = written(D)
    made = context(tmp_path, start_from_sha256=sha256(path))
    for _ in range(2):  # again over the outputs of the first
        stage.run(made)
    out, G = made.out, load_generator(made.out / "G_ema.safetensors")
    assert G.img_resolution == SIDE and load_metadata(out / "G_ema.safetensors")["imported"]["file"] == "G.pkl"
    kind = load_metadata(out / "D.safetensors").get("class")
    assert kind == ("Discriminator" if D else None)
    for name in ("metrics.json", "stats.jsonl", "curves/source.json", "snapshots/fakes000000.png"):
        assert (out / name).exists(), name


def test_wrong_files_are_named(tmp_path, written):
    with pytest.raises(UserError, match="G.pkl: no such file"):
        stage.run(context(tmp_path))
    written()
    with pytest.raises(UserError, match="start_from_sha256 is 0000"):
        stage.run(context(tmp_path, start_from_sha256="0" * 64))
    with pytest.raises(UserError, match="makes images of 32 px, but resolution is 64"):
        stage.run(context(tmp_path, resolution=64))
    with pytest.raises(ValueError, match="not both"):
        GeneratorParams(**PARAMS | dict(from_file="G.pkl", start_from="x", start_from_sha256="0" * 64))


def test_training_goes_on_from_imported_networks(tmp_path, written, capsys):
    sizes = dict(img_resolution=SIDE, channel_base=512, channel_max=16)
    G = Generator(z_dim=16, w_dim=16, num_mapping_layers=3, **sizes)
    D = Discriminator(mbstd_group=4, **sizes)
    import_generator(written(), tmp_path / "a")
    state = load_origin(tmp_path / "a/generator", G, D)
    assert tensors_equal(state["G"], load_tensors(tmp_path / "a/generator/G_ema.safetensors")[0])
    assert "D was trained with mbstd_group None; it goes on with 4" in capsys.readouterr().out
    import_generator(written(clamp=256.0), tmp_path / "b")
    with pytest.raises(UserError, match="conv_clamp 256.0.*generator.from_file"):
        load_origin(tmp_path / "b/generator", G, D)
    written(D=False)
    made = context(tmp_path, **STYLEGAN2)
    stage.run(made)
    with pytest.raises(UserError, match="D.safetensors: the imported file has no discriminator"):
        load_origin(made.out, G, D)
