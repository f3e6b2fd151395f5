"""Params files: every key known and typed, every fault named."""

import pickle

import pytest
import yaml

from editgan.config import STAGES, flat_keys, load_params, stage_params
from editgan.editing.edits import load_edits
from editgan.editing.params import DEFAULT_WEIGHTS
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


def test_default_file_is_complete():
    """Nothing is left to a default of the classes, and every key stands in its place."""
    params = load_params(FILES[0])
    assert set(type(params).model_fields) == {"seed", "resolution", "runtime", *STAGES}
    assert params.model_dump(mode="json") == yaml.safe_load(FILES[0].read_text())


def test_default_file_is_short_and_describes_every_value():
    lines = [line for line in FILES[0].read_text().splitlines() if line and not line.lstrip().startswith("#")]
    values = [line for line in lines if not line.partition("  #")[0].rstrip().endswith(":")]
    assert len(values) == len(flat_keys(yaml.safe_load(FILES[0].read_text()))) <= 130
    assert not [line for line in values if not line.partition("  # ")[2]]


def test_editor_and_default_run_have_the_same_objective():
    assert load_params(FILES[0]).editing.weights == DEFAULT_WEIGHTS


@pytest.mark.parametrize("path", FILES[1:], ids=lambda path: path.name)
def test_other_files_hold_what_differs(path):
    default, written = (yaml.safe_load(file.read_text()) for file in (FILES[0], path))
    assert load_params(path) != load_params(FILES[0])

    def same(section, default):
        for key, value in section.items():
            if isinstance(value, dict):
                yield from same(value, default[key])
            elif value == default[key]:
                yield key

    assert not list(same(written, default))


def test_other_files_are_merged_over_the_default(tmp_path):
    (tmp_path / "params").mkdir()
    (tmp_path / "params.yaml").write_text(FILES[0].read_text())
    path = tmp_path / "params" / "mine.yaml"
    path.write_text("judges: {kimg: 1}\ngenerator: {kimg: 3}\n")
    default, params = load_params(FILES[0]), load_params(path)
    assert params.judges == default.judges.model_copy(update={"kimg": 1}) and params.generator.kimg == 3
    assert params.encoder == default.encoder
    path.write_text("judges: {kmig: 1}\n")
    with pytest.raises(UserError, match=r"mine\.yaml: judges\.kmig: unknown key \(given 1\)"):
        load_params(path)


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


@pytest.mark.parametrize(
    "text", ["a: [", "just words", "", "a: 2026-13-45", "a: !!int b", f"a: {'9' * 5000}", "[" * 5000]
)
def test_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="broken.yaml"):
        load_params(path)


def test_missing_file_names_the_files_there_are(monkeypatch):
    monkeypatch.chdir(PROJECT_ROOT)
    with pytest.raises(UserError, match="no such params file.*params/ci.yaml"):
        load_params("params/nothing.yaml")


def test_a_run_records_its_own_section_and_the_shared_keys_joined_with_dots():
    params = load_params(FILES[0])
    flat = stage_params("editing", params)
    assert flat["seed"] == params.seed and flat["editing.edit.steps"] == params.editing.edit.steps
    assert flat["runtime.device"] in ("auto", "cpu", "cuda") and "judges.batch" not in flat
    assert not any(isinstance(value, dict) for value in flat.values())


def test_params_reach_other_processes(project_root):
    params = load_params(project_root / "params.yaml")
    again = pickle.loads(pickle.dumps(params))
    assert again == params and type(again) is type(params) and again.scoring.editgan == params.scoring.editgan


@pytest.mark.parametrize("text", ["data:\n  test: 8\n  test: 400\n", "data:\n  test: 8\ndata:\n  val: 100\n"])
def test_a_key_that_is_given_twice_is_refused(tmp_path, text):
    """YAML keeps the last one, so a section that is repeated would lose its first values without a word."""
    (tmp_path / "params").mkdir()
    (tmp_path / "params.yaml").write_text(FILES[0].read_text())
    (tmp_path / "params/mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"the key '(test|data)' is given twice\s+in .*, line 3"):
        load_params(tmp_path / "params/mine.yaml")
    (tmp_path / "edits.yaml").write_text("wide: {}\nwide: {}\n")
    with pytest.raises(UserError, match="the key 'wide' is given twice"):
        load_edits(tmp_path / "edits.yaml", ["hair"])
