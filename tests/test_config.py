"""Params files: every key known and typed, every fault named."""

import pytest
import yaml

from editgan.config import STAGES, Params, flatten, load_params
from editgan.errors import UserError
from editgan.runtime.environment import PROJECT_ROOT

FILES = [PROJECT_ROOT / "params.yaml", *sorted((PROJECT_ROOT / "params").glob("*.yaml"))]


@pytest.fixture
def changed(tmp_path):
    """Writes the default params with some changes and returns the file."""

    def write(change):
        content = yaml.safe_load(FILES[0].read_text())
        change(content)
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


NEW_RECIPE = {
    "loss", "discriminator", "d_channel_max", "projected_weight", "projected_from_kimg", "projected_width",
    "projected_lr", "noise", "ema_kimg_end",
}  # fmt: skip
OLD_RECIPE = {
    "warm_start", "start_from", "start_from_sha256", "anchor_images", "anchor_weight", "noise_lr_multiplier",
    "d_first_kimg",
}  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_shipped_file_is_complete(path):
    params = load_params(path)
    assert set(Params.model_fields) == {"seed", "resolution", "runtime", "nightly", *STAGES}
    written = yaml.safe_load(path.read_text())
    # Of a stage nothing is left to a default, but for the recipe of the generator that a run does not use.
    meant = params.model_dump(mode="json")
    absent = {name for name in meant["generator"] if name not in written["generator"]}
    assert absent <= (NEW_RECIPE if "warm_start" in written["generator"] else OLD_RECIPE)
    for section in ("generator", "runtime"):
        assert written[section] == {name: meant[section][name] for name in written[section]}
    assert {**meant, **{name: written[name] for name in ("generator", "runtime")}} == written


@pytest.mark.parametrize(
    ("section", "key", "value", "fault"),
    [
        ("data", "few_shot", 321, "data.few_shot 321 must not exceed data.pool 320"),
        ("encoder", "val_images", 501, "encoder.val_images 501 must not exceed data.val 500"),
        ("segmentation", "labelled_images", 17, "segmentation.labelled_images 17 must not exceed data.few_shot 16"),
        ("generator", "channel_base", 32, "resolution 64 must not exceed generator.channel_base 32"),
    ],
)
def test_sections_fit_each_other(changed, section, key, value, fault):
    with pytest.raises(UserError, match=fault):
        load_params(changed(lambda content: content[section].update({key: value})))


def test_sections_are_frozen():
    params = load_params(FILES[0])
    with pytest.raises(ValueError):
        params.seed = 1
    with pytest.raises(ValueError):
        params.judges.batch = 1


def test_unknown_key_is_named_with_its_value(changed):
    path = changed(lambda content: content["judges"].update(learnin_rate=0.5))
    with pytest.raises(UserError, match=r"judges\.learnin_rate: unknown key \(given 0\.5\)"):
        load_params(path)


def test_every_fault_is_listed(changed):
    def change(content):
        del content["seed"]
        content["resolution"] = 48
        content["runtime"]["device"] = "tpu"

    with pytest.raises(UserError) as caught:
        load_params(changed(change))
    message = str(caught.value)
    assert "seed: missing" in message
    assert "resolution: " in message and "power of two" in message and "48" in message
    assert "runtime.device: " in message and "'tpu'" in message


@pytest.mark.parametrize("text", ["a: [", "just words", ""])
def test_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="broken.yaml"):
        load_params(path)


def test_missing_file_names_the_files_there_are(monkeypatch):
    monkeypatch.chdir(PROJECT_ROOT)
    with pytest.raises(UserError, match="no such params file.*params/ci.yaml"):
        load_params("params/nothing.yaml")


def test_flatten_joins_keys_with_dots():
    flat = flatten(load_params(FILES[0]))
    assert flat["seed"] == load_params(FILES[0]).seed
    assert flat["runtime.device"] in ("auto", "cpu", "cuda")
    assert not any(isinstance(value, dict) for value in flat.values())
