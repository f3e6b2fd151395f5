"""Generators of other programs: read, converted, equal in all they compute; what cannot be represented is refused."""

import collections
import pickle

import foreign_files as files
import numpy as np
import pytest
import torch
from foreign_arithmetic import Reference, reference_logits

from editgan.errors import UserError
from editgan.generator.discriminator import Discriminator
from editgan.generator.foreign.files import import_generator, read_networks
from editgan.generator.generator import load_generator
from editgan.weights import load_metadata, load_module, load_tensors, sha256

SIDE = 64
SIZES = dict(w=16, base=512, most=16, layers=3)  # narrow, for speed; one test has the published widths
PUBLISHED = dict(w=512, base=16384, most=512, layers=8)
D_SIZES = ("base", "most")


def sizes_of_d() -> dict:
    return {name: SIZES[name] for name in D_SIZES}


@pytest.fixture(autouse=True)
def modules():
    with files.foreign_modules() as made:
        yield made


def nvidia(path, clamp=None, group=4, **options):
    G = files.nvidia_generator(clamp=clamp, **SIZES, **options)
    D = files.nvidia_discriminator(clamp=clamp, group=group, frozen=True, **sizes_of_d())
    files.write_nvidia(path, G, D)
    reference = Reference(files.nvidia_access(G), SIDE, SIZES["layers"], clamp)
    return reference, lambda x: reference_logits(files.nvidia_access(D), SIDE, x, group=group, clamp=clamp)


def nvidia_module(path):
    G = files.nvidia_generator(**SIZES)
    torch.save(G, path)
    return Reference(files.nvidia_access(G), SIDE, SIZES["layers"]), None


def tensorflow(path, **settings):
    base, width, layers = SIZES["base"] // 2, SIZES["w"], SIZES["layers"]  # fmap_base counts differently
    arrays = files.tensorflow_generator(**SIZES | {"base": base})
    d_arrays = files.tensorflow_discriminator(**sizes_of_d() | {"base": base})
    sizes = dict(resolution=SIDE, num_channels=3, label_size=0, fmap_base=base, fmap_max=SIZES["most"])
    given = sizes | dict(latent_size=width, dlatent_size=width, mapping_fmaps=width, mapping_layers=layers)
    Gs = files.tensorflow_network(given | settings, arrays, "G_main", ("mapping", "synthesis"))
    D = files.tensorflow_network(sizes | dict(architecture="resnet"), d_arrays, "D_stylegan2")
    path.write_bytes(pickle.dumps((Gs, D, Gs), protocol=4))
    reference = Reference(files.tensorflow_access(arrays), SIDE, SIZES["layers"])
    return reference, lambda x: reference_logits(files.tensorflow_d_access(d_arrays), SIDE, x, group=4)


def rosinality(path, wrap=lambda state, d, average: files.training_file(state, d, average), old=False):
    state, average = files.rosinality_generator(**SIZES), torch.randn(SIZES["w"])
    d = files.rosinality_discriminator(**sizes_of_d())
    content = wrap(state, d, average)
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    logits = (lambda x: reference_logits(files.rosinality_d_access(d), SIDE, x, group=4)) if "d" in content else None
    return Reference(files.rosinality_access(state, average), SIDE, SIZES["layers"]), logits


def psp(state, _, average):
    """pSp and e4e: one mean for every row, options, and the encoder beside the decoder."""
    wrapped = {f"decoder.{name}": tensor for name, tensor in state.items()}
    return {"state_dict": wrapped | {"encoder.input_layer.0.weight": torch.randn(4, 3, 3, 3)},
            "latent_avg": average.expand(10, len(average)).clone(), "opts": {"output_size": SIDE}}  # fmt: skip


FORMATS = {
    "nvidia .pkl": nvidia,
    "nvidia .pkl, conv_clamp": lambda path: nvidia(path, clamp=3.0, group=None),
    "nvidia .pkl, stylegan3's StyleGAN2": lambda path: nvidia(path, flat=True, clamp=256.0),
    "nvidia torch.save": nvidia_module,
    "tensorflow .pkl": tensorflow,
    "rosinality training": rosinality,
    "rosinality training, old zip-less": lambda path: rosinality(path, old=True),
    "rosinality converted": lambda path: rosinality(path, lambda g, d, average: {"g_ema": g, "latent_avg": average}),
    "rosinality bare": lambda path: rosinality(path, lambda g, d, average: dict(g, latent_avg=average)),
    "pSp, e4e": lambda path: rosinality(path, psp),
}


@pytest.mark.parametrize("name", FORMATS)
@torch.no_grad()
def test_images_latents_features_and_logits_are_those_of_the_format(tmp_path, name):
    reference, logits = FORMATS[name](tmp_path / "file")
    done = import_generator(tmp_path / "file", tmp_path / "outputs")
    found = differences(done, reference, logits)
    assert all(value < 1e-5 for value in found.values()), found
    assert (done.D is not None) == (logits is not None) == ("logits" in found)
    said = "\n".join(done.lines)
    wanted = f"{SIDE} px, 10 rows of W+ with {SIZES['w']} entries"
    assert wanted in said and "16 at 4" in said and "w_avg: mean" in said


@torch.no_grad()
def differences(done, reference, logits):
    """Largest absolute differences of each result, relative to the largest value of the format's own arithmetic."""
    G, found = load_generator(done.G_ema), {}
    z = torch.randn(4, G.z_dim)

    def compare(key, ours, theirs):
        found[key] = max(found.get(key, 0.0), float((ours - theirs).abs().max() / theirs.abs().max()))

    for psi in (1.0, 0.7):
        compare("W", G.mapping(z, psi)[:, 0], reference.w(z, psi))
    ws = reference.w(z)[:, None] + 0.3 * torch.randn(4, G.num_ws, G.w_dim)
    for noise, mode in ((True, "const"), (False, "none")):
        (ours, maps), (image, features) = G.synthesis_features(ws, mode), reference.image(ws, noise)
        compare(f"image, noise {mode}", ours, image)
        for mine, theirs in zip(maps, features, strict=True):
            compare("features", mine, theirs)
    if done.D is not None:
        images = torch.randn(8, 3, SIDE, SIDE)
        compare("logits", load_module(done.D, Discriminator)(images), logits(images))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_largest_differences_at_the_published_widths(tmp_path, monkeypatch, name):
    """`pytest -s` prints the rows of docs/results/foreign.md."""
    for key, value in PUBLISHED.items():
        monkeypatch.setitem(SIZES, key, value)
    reference, logits = FORMATS[name](tmp_path / "file")
    found = differences(import_generator(tmp_path / "file", tmp_path / "outputs"), reference, logits)
    columns = ("image, noise none", "image, noise const", "W", "features", "logits")
    print(f"\n| {name} | {' | '.join(f'{found[key]:.1e}' if key in found else '-' for key in columns)} |")
    assert all(value < 1e-5 for value in found.values()), found


def test_clamp_is_applied_and_kept():
    """Without it, the image differs by more than the clamp."""
    ws, images = torch.randn(2, 10, 16), []
    for clamp in (3.0, None):
        torch.manual_seed(1)
        G = files.nvidia_generator(clamp=clamp)
        images.append(Reference(files.nvidia_access(G), SIDE, 3, clamp).image(ws)[0])
    assert (images[0] - images[1]).abs().max() > 3


def test_metadata_names_the_source(tmp_path):
    nvidia(tmp_path / "mine.pkl")
    done = import_generator(tmp_path / "mine.pkl", tmp_path / "outputs")
    for path in (done.G_ema, done.D):
        source = load_metadata(path)["imported"]
        assert source["file"] == "mine.pkl" and source["sha256"] == sha256(tmp_path / "mine.pkl")
        assert "non-commercial" in source["licence"]
        assert all(tensor.dtype == torch.float32 for tensor in load_tensors(path)[0].values()), "kept exactly"
    before = done.G_ema.read_bytes()
    again = import_generator(tmp_path / "mine.pkl", tmp_path / "outputs")
    assert again.G_ema.read_bytes() == before, "the same file twice"
    torch.manual_seed(5)
    nvidia(tmp_path / "other.pkl")
    with pytest.raises(UserError, match="exists and is another network"):
        import_generator(tmp_path / "other.pkl", tmp_path / "outputs")
    assert done.G_ema.read_bytes() == before


def test_equal_weights_with_another_clamp_are_another_network(tmp_path):
    for name, clamp in (("mine", None), ("clamped", 3.0)):
        torch.manual_seed(5)
        files.write_nvidia(tmp_path / f"{name}.pkl", files.nvidia_generator(clamp=clamp), None)
    done = import_generator(tmp_path / "mine.pkl", tmp_path / "outputs")
    before = done.G_ema.read_bytes()
    with pytest.raises(UserError, match="exists and is another network"):
        import_generator(tmp_path / "clamped.pkl", tmp_path / "outputs")
    assert done.G_ema.read_bytes() == before


def test_w_avg_and_noise_maps_are_made_where_the_file_lacks_them(tmp_path):
    state = files.rosinality_generator()
    torch.save({name: one for name, one in state.items() if "noises" not in name}, tmp_path / "file.pt")
    networks = read_networks(tmp_path / "file.pt")
    G = networks.G_ema
    means = G.mapping(torch.randn(20000, 16))[:, 0].mean(0)
    assert (G.w_avg - means).norm() < 0.05 * means.norm() and len(networks.notes) == 2
    assert torch.equal(read_networks(tmp_path / "file.pt").G_ema.state_dict()["synthesis.b8.conv0.noise_const"],
                       G.synthesis.b8.conv0.noise_const)  # fmt: skip


# --- what cannot be represented ---------------------------------------------------------------------------------------

SOFT = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16
UNSUITED_G = {
    "c_dim": dict(c_dim=10),
    "img_channels": dict(img_channels=1),
    "layer_features": dict(mapping=dict(layer_features=8)),
    "lr_multiplier": dict(mapping=dict(lr_multiplier=0.1)),
    "architecture": dict(settings=dict(architecture="resnet")),
    "use_noise": dict(settings=dict(use_noise=False)),
    "low-pass filter": dict(taps=SOFT),
    "resample_filter": dict(settings=dict(resample_filter=[1, 2, 1])),
    "activation": dict(settings=dict(activation="relu")),
    "conv_clamp": dict(clamp=-1.0),
    "more layers than weights": dict(mapping_kwargs=dict(num_layers=10**9)),
    "impossible sizes": dict(settings=dict(channel_base=1)),
}
UNSUITED_D = {
    "D: architecture": dict(architecture="orig"),
    "D: c_dim": dict(c_dim=3),
    "mbstd_num_channels": dict(epilogue=dict(mbstd_num_channels=2)),
    "mbstd_group_size": dict(group=0),
}


@pytest.mark.parametrize("fault", [*UNSUITED_G, *UNSUITED_D])
def test_nvidia_networks_that_cannot_be_represented_are_named(tmp_path, fault):
    G = files.nvidia_generator(**UNSUITED_G.get(fault, {}))
    files.write_nvidia(tmp_path / "x.pkl", G, files.nvidia_discriminator(**UNSUITED_D.get(fault, {})))
    refused(tmp_path / "x.pkl", fault)


def refused(path, fault):
    with pytest.raises(UserError, match=fault) as caught:
        read_networks(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_modules_that_contradict_their_arguments_are_refused(tmp_path):
    """Defaults differ between versions of the code; what the modules say decides."""
    G = files.nvidia_generator()
    G.synthesis.b8.architecture = "orig"
    files.write_nvidia(tmp_path / "x.pkl", G, None)
    refused(tmp_path / "x.pkl", "architecture is 'orig'")
    G = files.nvidia_generator()
    G.synthesis.b8.conv0.activation = "linear"
    files.write_nvidia(tmp_path / "x.pkl", G, None)
    refused(tmp_path / "x.pkl", "b8.conv0.activation is 'linear'")
    G = files.nvidia_generator(settings=dict(channel_max=8))
    files.write_nvidia(tmp_path / "x.pkl", G, None)
    refused(tmp_path / "x.pkl", "other shapes than its sizes say")
    G = files.nvidia_generator()
    del G.synthesis.b16.conv0._parameters["bias"]
    files.write_nvidia(tmp_path / "x.pkl", G, None)
    refused(tmp_path / "x.pkl", "lacks synthesis.b16.conv0.bias")
    G = files.nvidia_generator()
    G.synthesis.b16.conv0.bias.data[0] = float("nan")
    files.write_nvidia(tmp_path / "x.pkl", G, None)
    refused(tmp_path / "x.pkl", "synthesis.b16.conv0.bias has values that are NaN")


def test_networks_of_two_sizes_are_refused(tmp_path):
    G, D = files.nvidia_generator(), files.nvidia_discriminator(side=2 * SIDE)
    files.write_nvidia(tmp_path / "x.pkl", G, D)
    refused(tmp_path / "x.pkl", f"G is of {SIDE} px, but D of {2 * SIDE} px")


def test_other_networks_are_named(tmp_path):
    path = tmp_path / "file"
    tensorflow(path, architecture="orig")
    refused(path, "architecture is 'orig'")
    tensorflow(path, use_noise=False)
    refused(path, "use_noise")
    tensorflow(path, synthesis_func="G_synthesis_stylegan_revised")
    refused(path, "unknown setting synthesis_func")
    old = files.tensorflow_network({}, {"4x4/Const/const": np.zeros((1, 8, 4, 4))}, "G_style")
    path.write_bytes(pickle.dumps((old, old, old)))
    refused(path, "StyleGAN1")
    third = files.Persistent("SynthesisNetwork", weights={"L0_36_512": torch.zeros(3)}, _init_kwargs={})
    kwargs = dict(z_dim=8, w_dim=8, img_resolution=64)
    files.write_nvidia(path, files.Persistent("Generator", {"synthesis": third}, _init_kwargs=kwargs), None)
    refused(path, "StyleGAN3")
    encoder = {f"layer{i}.bn.running_mean": torch.zeros(3) for i in range(4)}
    torch.save({"model_state_dict": encoder}, path)
    refused(path, "EditGAN's encoder is another network")
    torch.save({"model_state_dict": {"module.layers.2.running_mean": torch.zeros(3), "module.layers.0.weight": torch.ones(2, 2)}}, path)  # noqa: E501  # fmt: skip
    refused(path, "editgan import classifiers")
    state = files.rosinality_generator()
    torch.save({"g_ema": state | {"to_rgbs.0.upsample.kernel": 4 * SOFT}}, path)
    refused(path, "low-pass filter")
    torch.save({"g_ema": state | {"convs.0.conv.blur.kernel": state["convs.0.conv.blur.kernel"] / 4}}, path)
    refused(path, "low-pass filter .* gain 4")
    torch.save({"g_ema": {name: one for name, one in state.items() if name != "convs.1.activate.bias"}}, path)
    refused(path, "lacks the weights convs.1.activate.bias")
    torch.save({"generator": {"progression.0.conv1.weight": torch.ones(2, 2)}}, path)
    refused(path, "StyleGAN1")
    torch.save({"g_ema": {1: torch.ones(2)}}, path)
    refused(path, "named 1")
    torch.save({"g_ema": state | {"more": torch.ones(1)}}, path)
    refused(path, "unknown weights more")
    path.write_bytes(b"<!DOCTYPE html><html>quota exceeded</html>")
    refused(path, "web page")
    path.write_bytes(b"")
    refused(path, "is empty")
    refused(tmp_path / "none", "no such file")


def test_tensorflow_networks_are_not_read_in_part(tmp_path):
    path = tmp_path / "file"
    for settings, fault in (
        (dict(resolution=SIDE // 2), "G has the unknown variables synthesis/64x64"),
        (dict(mapping_layers=2), "G has the unknown variables mapping/Dense2"),
        (dict(mapping_layers=-1), "G has the unknown variables mapping/Dense0"),
    ):
        tensorflow(path, **settings)
        refused(path, fault)
    state = files.rosinality_generator()
    for name, weight in (("input.input", state["input.input"].repeat(2, 1, 1, 1)), ("conv1.conv.weight", state["conv1.conv.weight"].repeat(2, 1, 1, 1, 1))):  # noqa: E501  # fmt: skip
        torch.save({"g_ema": state | {name: weight}}, path)
        refused(path, f"{name} has the shape .2,")
    torch.save({"g_ema": state, "d": torch.ones(2)}, path)
    refused(path, "D is Tensor, not the weights of a network")
    torch.save({"g_ema": state | {"conv1.activate.bias": torch.zeros(16, dtype=torch.complex64)}}, path)
    refused(path, "complex values")


def test_our_own_reader_points_to_the_import(tmp_path):
    nvidia(tmp_path / "G_ema.pkl")
    with pytest.raises(UserError, match="`editgan import generator` converts"):
        load_generator(tmp_path / "G_ema.pkl")


def test_ordered_state_dicts_are_read(tmp_path):
    """`Module.state_dict()` is an OrderedDict with attributes."""
    state = collections.OrderedDict(files.rosinality_generator())
    state._metadata = collections.OrderedDict(version=1)
    torch.save({"g_ema": state, "latent_avg": torch.zeros(16)}, tmp_path / "x.pt")
    assert read_networks(tmp_path / "x.pt").G_ema.img_resolution == SIDE
