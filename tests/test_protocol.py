"""The benchmark that a class brings with it: its data, which pictures it edits, and when an edit counts as success."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_scores import PixelDistance, Pooled, RedMouth

from editgan.config import load_params
from editgan.data.archive import Classes, encode_image, encode_mask, save_classes, write_archive
from editgan.data.protocol import SMILE, Protocol, load_protocol, read_protocol
from editgan.data.renderers import PROTOCOLS, RENDERERS
from editgan.editing.edits import load_edits
from editgan.errors import UserError
from editgan.judges.load import Judges
from editgan.judges.quality import classifier_table
from editgan.methods.smile import EDITGAN, INPUT, at_rest, load_heads
from editgan.metrics import Reference
from editgan.runtime.environment import PROJECT_ROOT
from editgan.scoring.parts import PartShare
from editgan.scoring.scores import measure_row, score_row
from editgan.scoring.table import Column, Row

SIZE = 16
TAIL = Protocol(attribute="tail_length", parts=("tail",), low=1, high=2, growth=1.5, conditions=("age",))


@pytest.mark.parametrize("name", ["cars", "cats", "birds"])
def test_every_rendered_class_brings_a_benchmark_that_its_renderer_serves(name):
    """The true change shows on the exact masks, and turns most pictures from without the attribute to with it."""
    protocol, renderer = PROTOCOLS[name], RENDERERS[name]
    ids = [renderer.classes.names.index(part) for part in protocol.parts]
    drawn = {split: [] for split in ("test", "test_smiling")}
    for index in range(24):
        before, after = (renderer.draw(split, index, seed=0, few_shot=0, resolution=64) for split in drawn)
        if at_rest(before[2], protocol):
            drawn["test"].append(before)
            drawn["test_smiling"].append(after)
    without, with_it = drawn.values()
    assert len(without) >= 6, "a third of the pictures and more are without the attribute"
    assert {*protocol.conditions, protocol.attribute} <= without[0][2].keys()
    assert np.mean([protocol.value(row) > (protocol.low + protocol.high) / 2 for *_, row in with_it]) > 0.65
    grown = [
        np.isin(after[1], ids).sum() >= protocol.growth * np.isin(before[1], ids).sum()
        for before, after in zip(without, with_it, strict=True)
    ]
    assert np.mean(grown) > 0.9


@pytest.mark.parametrize("name", ["cars", "cats", "birds"])
def test_the_vector_of_the_benchmark_is_an_edit_of_its_class(name):
    params = load_params(PROJECT_ROOT / "params" / f"{name}.yaml")
    edits = load_edits(PROJECT_ROOT / "params" / "edits" / f"{name}.yaml", RENDERERS[name].classes.names)
    assert set(edits[params.scoring.vector].region) & set(PROTOCOLS[name].parts)
    assert params.scoring.plus_vector == f"{params.scoring.vector}_mean"


def recipe(folder: Path, **content) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(content))
    return folder


def test_the_recipe_of_the_data_says_which_benchmark_it_is(tmp_path):
    assert load_protocol(recipe(tmp_path, renderer=1)) is SMILE, "the rendered heads name no source"
    assert load_protocol(recipe(tmp_path, source="cats")) is PROTOCOLS["cats"]
    assert load_protocol(recipe(tmp_path, source="folder")) is SMILE
    assert load_protocol(recipe(tmp_path, source="folder", benchmark=TAIL.model_dump())) == TAIL


def test_a_folder_may_bring_its_benchmark(tmp_path):
    assert read_protocol(tmp_path) is None
    path = tmp_path / "benchmark.yaml"
    whole = "attribute: tail_length\nparts: [tail]\nlow: 1\nhigh: 2\ngrowth: 1.5\nconditions: [age]\n"
    path.write_text(whole)
    assert read_protocol(tmp_path) == TAIL
    for text, fault in (
        (whole.replace("low: 1", "low: 3"), "low 3 must be below high 2"),
        (whole.replace("growth: 1.5", "growth: 1"), r"growth: .*greater than 1 .*\(given 1\)"),
        (whole.replace("parts: [tail]", "parts: []"), "parts: "),
        (whole + "judge: me\n", "judge: unknown key"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=fault):
            read_protocol(tmp_path)


def tails(folder: Path, lengths: list) -> Path:
    """Test pictures with tails of these lengths, and the same with longer ones."""
    palette = np.array([[0, 0, 0], [200, 0, 0]], np.uint8)
    save_classes(folder / "classes.json", Classes(names=["background", "tail"], palette=palette))
    rows = [{"identity": index, "tail_length": length} for index, length in enumerate(lengths)]
    for split, columns in (("test", 2), ("test_smiling", 6)):
        masks, images = np.zeros((2, len(rows), SIZE, SIZE), np.uint8)
        masks[:, 6:10, 2 : 2 + columns] = 1
        images += np.arange(len(rows), dtype=np.uint8)[:, None, None] + 10
        write_archive(
            folder / f"{split}.zip",
            [encode_image(np.stack([image] * 3, -1)) for image in images],
            [encode_mask(mask, palette) for mask in masks],
            rows,
        )
    return recipe(folder, source="folder", benchmark=TAIL.model_dump())


def test_test_pictures_that_have_the_attribute_already_are_left_out(tmp_path):
    heads = load_heads(tails(tmp_path, [0.5, 1.5, 1.0, 3.0, None]))
    assert heads.places == (0, 2) and heads.protocol == TAIL and heads.identities == [0, 2]
    assert heads.photos[:, 0, 0, 0].tolist() == [10, 12] and len(heads.smiling) == 2
    assert heads.region[:, 5:11, 1:9].all() and not heads.region[:, :, 10:].any()
    with pytest.raises(UserError, match="1 pictures are without tail_length .at most 1.; .* raise data.test"):
        load_heads(tails(tmp_path, [0.5, 1.5]))


class Bright(torch.nn.Module):
    """A parser that takes bright pixels for a tail."""

    def forward(self, images):
        return torch.stack([torch.zeros_like(images[:, 0]), images[:, 0]], 1)


def test_success_is_judged_by_classifier_and_growth_of_the_parts_and_similarity_outside_them(tmp_path):
    heads = load_heads(tails(tmp_path, [0.5, 0.6, 0.7, 0.8]))
    heads.photos[:, :, 6:10, 2:4] = 250
    heads.smiling[:, :, 6:10, 2:8] = 250
    part = PartShare(Bright(), [1])
    assert part.smile(torch.full((1, 3, 4, 4), 0.5)).tolist() == [1.0]
    judges = Judges(
        {"judge": RedMouth(), "parser": part}, {"efflite0": Pooled()}, {"efflite0": Pooled()}, PixelDistance()
    )

    def measured(pictures):
        options = dict(batch=2, device=torch.device("cpu"), hidden=heads.region)
        return measure_row(pictures, heads.smiling, judges, **options)

    photo = measured(heads.photos)
    references = {"efflite0": Reference.of(photo.features["efflite0"].repeat(3, 1), count=4, seed=0)}

    def values(method: str, pictures) -> dict:
        row = dict(photo=photo, reconstruction=photo, heads=heads, references=references, seed=0)
        return score_row(Row(method, 1.0), measured(pictures), **row).values()

    success, kept = Column("changed", "parser"), Column("similarity", "efflite0")
    found = values(EDITGAN, heads.smiling)
    assert found[success] == 100 and found[kept] == pytest.approx(1), "what the edit changes is hidden"
    assert {Column("changed", "judge"), Column("similarity_relative", "efflite0")} <= found.keys()
    assert not any("smil" in column.metric or "identity" in column.metric for column in found)
    assert values(EDITGAN, heads.photos)[success] == 0 == values(INPUT, heads.photos)[success]
    longer = heads.photos.clone()
    longer[:, :, 6:8, 4] = 250  # a quarter more
    assert values(EDITGAN, longer)[success] == 0, "less than asked for"
    elsewhere = heads.photos.clone()
    elsewhere[:, :, :, 12:] = 250
    assert values(EDITGAN, elsewhere)[kept] < 0.99


def test_quality_of_the_classifiers_names_the_attribute_and_no_face():
    quality = {"auc": 0.9, "accuracy": 0.8, "called_smiling_of_neutral": 0.1, "called_smiling_of_smiling": 0.7}
    metrics = {"val_heads": 9, "test_heads": 4, "agreement": {"guide/judge": 0.9}}
    metrics["smile"] = {name: {"test": quality, "val": quality} for name in ("judge", "guide")}
    text = classifier_table(metrics, TAIL)
    assert (
        "`tail_length`" in text and "| judge | judges | 0.9000 | 80.0 % | 10.0 % | 70.0 % | 0.9000 | 80.0 % |" in text
    )
    assert not any(word in text for word in ("smil", "face", "head", "person"))
    del metrics["test_heads"], metrics["smile"]["judge"]["test"], metrics["smile"]["guide"]["test"]
    assert "| judge | judges | 0.9000 | 80.0 % |\n" in classifier_table(metrics, TAIL)
