"""Edits of masks and the file that describes them."""

import numpy as np
import pytest
import yaml

from editgan.data.archive import encode_image, encode_mask
from editgan.data.heads.paint import CLASSES
from editgan.data.renderers import RENDERERS
from editgan.editing.edits import Edit, choose_donor, fits, load_edits, suitable_pictures, target_mask
from editgan.editing.masks import bounding_box, grow_parts, move_parts, open_parts, place_parts
from editgan.errors import UserError
from editgan.runtime.environment import PROJECT_ROOT

NAMES = ["background", "skin", "left_eye", "right_eye", "upper_lip", "lower_lip", "mouth_interior", "hair"]
EYE, OTHER_EYE, UPPER, LOWER, INSIDE, HAIR = range(2, 8)


def head(shift: int = 0) -> np.ndarray:
    """32 px: hair above skin, two eyes of 2 x 4 pixels, closed lips of 2 rows each.  # uint8 [32, 32]"""
    mask = np.zeros((32, 32), np.uint8)
    mask[6:30, 6:26], mask[4:8, 6:26] = 1, HAIR
    mask[12:14, 8:12], mask[12:14, 20:24] = OTHER_EYE, EYE
    mask[22 + shift : 24 + shift, 12:20], mask[24 + shift : 26 + shift, 12:20] = UPPER, LOWER
    return mask


def made(steps: str, mask: np.ndarray | None = None, donors=None, attributes=()) -> np.ndarray:
    """The target of an edit whose operations are written as in the file."""
    entry = {"about": "x", "region": ["skin"], "mask": yaml.safe_load(steps)}
    return target_mask(
        parse(entry), head() if mask is None else mask, class_names=NAMES,
        donors=np.zeros((0, 32, 32), np.uint8) if donors is None else donors, donor_attributes=attributes,
    )[0]  # fmt: skip


def parse(entry: dict):
    return Edit.model_validate(entry)


def count(mask: np.ndarray, label: int) -> int:
    return int((mask == label).sum())


def test_eyes_close_to_one_row_each_in_its_place():
    closed = made("[{move: {parts: [left_eye, right_eye], scale: [1, 0.35]}}]")
    for label in (EYE, OTHER_EYE):
        top, left, bottom, right = bounding_box(closed, [label])
        assert (bottom - top, right - left) == (1, 4) and left == bounding_box(head(), [label])[1]
    changed = closed != head()
    assert set(head()[changed]) == {EYE, OTHER_EYE} and set(closed[changed]) == {1}


@pytest.mark.parametrize("scale", [0.2, 0.5, 0.8, 1.0, 1.3, 1.7, 3.0])
def test_scaled_parts_have_whole_sides_of_at_least_a_pixel(scale):
    scaled = move_parts(head(), [EYE], scale=(scale, scale))
    top, left, bottom, right = bounding_box(scaled, [EYE])
    assert (bottom - top, right - left) == (max(1, round(2 * scale)), max(1, round(4 * scale)))
    assert (scaled == EYE).sum() == (bottom - top) * (right - left)


def test_moved_parts_leave_the_nearest_label_behind():
    moved = move_parts(head(), [UPPER, LOWER], by=(3, -2))
    assert np.array_equal(moved == UPPER, np.roll(head() == UPPER, (-2, 3), (0, 1)))
    assert np.array_equal(moved == LOWER, np.roll(head() == LOWER, (-2, 3), (0, 1)))
    assert (moved[25, 12:15] == 1).all() and np.array_equal(move_parts(head(), [INSIDE], by=(3, 3)), head())


def test_turning_a_quarter_swaps_the_sides():
    turned = move_parts(head(), [EYE], degrees=90)
    top, left, bottom, right = bounding_box(turned, [EYE])
    assert (bottom - top, right - left) == (4, 2)
    down = place_parts(np.ones((9, 9), np.uint8), np.pad([[2, 3]], ((4, 4), (4, 3))).astype(np.uint8), [2, 3],
                       start=(4.5, 4.5), end=(4.5, 4.5), degrees=90)  # fmt: skip
    assert down[4, 4] == 2 and down[5, 4] == 3, "clockwise: what was on the right is below"


def test_growing_and_shrinking():
    grown = grow_parts(head(), [EYE], (1, 2), over=[1])
    assert bounding_box(grown, [EYE]) == (10, 19, 16, 25)
    assert count(grow_parts(head(), [HAIR], (0, 3), over=[0]), 1) == count(head(), 1), "covers what it may alone"
    shrunk = grow_parts(head(), [UPPER, LOWER], (-1, -1))
    assert bounding_box(shrunk, [UPPER, LOWER]) == (23, 13, 25, 19) and shrunk[22, 15] == 1
    assert np.array_equal(grow_parts(head(), [INSIDE], (2, 2)), head())


def test_bent_lips_rise_at_their_ends_and_keep_their_middle():
    bent = made("[{bend: {parts: [upper_lip, lower_lip], y: 0.1}}]")  # 3 of 32 pixels
    for label, top in ((UPPER, 22), (LOWER, 24)):
        assert [int(np.flatnonzero(bent[:, column] == label).min()) for column in (12, 15, 16, 19)] == [
            top - 3, top, top, top - 3,
        ]  # fmt: skip
        assert count(bent, label) == count(head(), label)
    lowered = made("[{bend: {parts: [upper_lip, lower_lip], y: -0.1}}]")
    assert np.flatnonzero(lowered[:, 12] == UPPER).min() == 25 and lowered[22, 12] == 1, "skin fills in"
    assert np.array_equal(made("[{bend: {parts: [mouth_interior], y: 0.1}}]"), head()), "parts that are not there"


def test_opened_mouth_shows_its_inside_between_the_lips():
    opened = open_parts(head(), UPPER, LOWER, INSIDE, 3)
    column = opened[20:30, 15]
    assert column.tolist() == [1, 1, UPPER, UPPER, INSIDE, INSIDE, INSIDE, LOWER, LOWER, 1]
    assert count(opened, LOWER) == count(head(), LOWER)


def test_repainting():
    assert count(made("[{repaint: {parts: [hair], as: skin}}]"), HAIR) == 0
    bald = made("[{repaint: {parts: [hair], as: nearest}}]")
    assert count(bald, HAIR) == 0 and bald[4, 15] == 0 and bald[7, 15] == 1


def test_transplants_keep_their_place_relative_to_the_eyes():
    donor = head(shift=3)
    donor = np.roll(donor, (-2, 1), (0, 1))
    attributes = [{"smile": 1.0, "yaw": 0.0, "pitch": 0.0, "roll": 0.0}]
    step = "{{parts: [upper_lip, lower_lip], donor: smile >= 0.8{}}}"
    at_eyes = made(f"[transplant: {step.format(', at: eyes')}]", donors=donor[None], attributes=attributes)
    assert np.array_equal(at_eyes == UPPER, head(shift=3) == UPPER)
    in_place = made(f"[transplant: {step.format('')}]", donors=donor[None], attributes=attributes)
    assert np.array_equal(in_place, head())
    both = made(f"[transplant: {step.format(', at: eyes, add: true')}]", donors=donor[None], attributes=attributes)
    assert count(both, UPPER) > count(head(), UPPER)


def test_rules():
    attributes = {"smile": 0.8, "beard": "none", "identity": 12}
    assert fits(attributes, "smile >= 0.8") and not fits(attributes, "smile >= 0.81")
    assert fits(attributes, "beard = none") and not fits(attributes, "beard != none")
    assert fits(attributes, "identity=12")
    assert fits(attributes, "smile = 0.80") and fits(attributes, "smile != 0")
    assert fits(attributes, "smile < 0.81") and not fits(attributes, "smile < 0.8")
    for rule, fault in (
        ("beard >= 0.5", "beard is not a number"),
        ("beard < 1", "beard is not a number"),
        ("smile >= high", "smile is a number"),
    ):
        with pytest.raises(UserError, match=fault):
            fits(attributes, rule)
    for rule in ("smile > 1", "hat = red", "", "beard == none"):
        with pytest.raises(UserError, match="invalid rule .* with one of the attributes"):
            fits(attributes, rule)


def test_donor_shows_all_parts_and_is_frontal():
    masks = np.stack([head(), open_parts(head(), UPPER, LOWER, INSIDE, 3), open_parts(head(), UPPER, LOWER, INSIDE, 2)])
    heads = [{"smile": 1.0, "yaw": yaw, "pitch": 0.0, "roll": 0.0} for yaw in (0.0, -0.4, 0.2)]
    least = ("yaw", "pitch", "roll")
    assert choose_donor("smile >= 0.5", [UPPER, LOWER, INSIDE], masks, heads, least) == 2
    assert choose_donor("smile >= 0.5", [UPPER, LOWER, INSIDE], masks, heads) == 1, "no order: the first"
    with pytest.raises(UserError, match="none of the 3 labelled pictures satisfies"):
        choose_donor("smile >= 2", [UPPER], masks, heads, least)


ORDERED = """
pictures: {learn_from: [open = 0], prefer: [colour = red], least: [turn, tilt]}
one: {about: x, region: [hair], mask: [{repaint: {parts: [hair], as: skin}}], learn_from: [size >= 2]}
other: {about: x, region: [hair], mask: [{repaint: {parts: [hair], as: skin}}], prefer: [], least: [size]}
"""


def test_the_file_says_which_pictures_edits_are_learned_from_and_an_edit_may_say_more(tmp_path):
    (tmp_path / "edits.yaml").write_text(ORDERED)
    edits = load_edits(tmp_path / "edits.yaml", NAMES)
    assert list(edits) == ["one", "other"] and edits["one"].learn_from == ("open = 0", "size >= 2")
    rows = [
        {"open": 0, "colour": colour, "turn": turn, "tilt": 0.1, "size": size}
        for colour, turn, size in (("blue", 0.0, 4), ("red", -0.5, 3), ("red", 0.2, 5), ("red", 0.0, 1))
    ]
    rows.append(rows[3] | {"open": 1})
    assert suitable_pictures(edits["one"], rows) == [2, 1, 0], "the preferred ones first, then by their turn"
    assert suitable_pictures(edits["other"], rows) == [3, 1, 0, 2], "its own order"
    with pytest.raises(UserError, match="no number 'turn'; its attributes are open, size"):
        suitable_pictures(edits["one"].model_copy(update={"prefer": ()}), [{"open": 0, "size": 3}])


@pytest.mark.parametrize("source", ["heads", "cars", "cats", "birds"])
def test_the_rules_of_every_rendered_class_fit_its_attributes(source):
    path = "edits.yaml" if source == "heads" else f"params/edits/{source}.yaml"
    renderer = RENDERERS[source]
    renderer.prepare()
    drawn = [renderer.draw("val", index, seed=0, few_shot=0, resolution=32) for index in range(12)]
    rows = [row for _, _, row in drawn]
    for name, edit in load_edits(PROJECT_ROOT / path, renderer.classes.names).items():
        found = suitable_pictures(edit, rows)
        assert found or edit.learn_from, f"{name}: without rules every picture is suitable"


def test_painted_mask_is_read_from_beside_the_file(tmp_path):
    wanted = open_parts(head(), UPPER, LOWER, INSIDE, 3)
    palette = np.arange(24, dtype=np.uint8).reshape(8, 3) * 10
    other_order = encode_mask(7 - wanted, palette[::-1].copy())
    edit = parse({"about": "x", "region": ["skin"], "mask": [{"painted": {"file": "mine.png"}}]})
    options = dict(class_names=NAMES, donors=np.zeros((0, 32, 32)), donor_attributes=[], folder=tmp_path)
    for content in (encode_mask(wanted, palette), other_order, encode_image(palette[wanted])):
        (tmp_path / "mine.png").write_bytes(content)
        found, origin = target_mask(edit, head(), **options, palette=palette)
        assert np.array_equal(found, wanted) and origin == "mine.png"


def test_shipped_file_describes_at_least_twelve_edits_one_sided_ones_among_them():
    edits = load_edits(PROJECT_ROOT / "edits.yaml", CLASSES.names)
    assert len(edits) >= 12 and any(edit.region == ("left_brow",) for edit in edits.values())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("smile: {about: x, region: [lips], mask: [{grow: {parts: [hair], x: 1, y: 1}}]}", "unknown part 'lips'"),
        ("smile: {about: x, region: [hair], mask: [{grow: {parts: [wig], x: 1, y: 1}}]}", "unknown part 'wig'"),
        ("smile: {about: x, region: [hair], mask: [{shave: {}}]}", "smile.mask.0.shave: "),
        ("smile: {about: x, region: [hair], mask: [{move: {x: 1}}]}", "smile.mask.0.move.parts: Field required"),
        ("smile: {about: x, region: [hair], mask: [{move: {parts: [hair], over: [skin]}}]}", "move.over: Extra inputs"),
        ("smile: {about: x, region: [hair], mask: [{}]}", "exactly one operation per list entry"),
        ("smile: {about: x, region: [hair]}", "smile.mask: Field required"),
        ("../x: {about: x}", "invalid edit name"),
        ("[1, 2]", "expected edits by name"),
        ("pictures: {least: [yaw]}", "expected edits by name, found only 'pictures'"),
        ("pictures: {rest: any}", "pictures.rest: Extra inputs"),
        ("a: [", "not valid YAML"),
    ],
)
def test_faults_of_the_file_are_named(tmp_path, text, fault):
    path = tmp_path / "edits.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_edits(path, NAMES)
    assert fault in str(error.value) and str(path) in str(error.value)
