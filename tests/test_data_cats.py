"""The rendered cats: determinism, true counterfactuals, parts, and agreement of picture and mask."""

import numpy as np
import pytest

from editgan.data import cats
from editgan.editing.edits import load_edits, target_mask
from editgan.errors import UserError
from editgan.runtime.environment import PROJECT_ROOT

CLASS = {name: number for number, name in enumerate(cats.CLASSES.names)}
EYES = ["left_eye", "right_eye", "left_pupil", "right_pupil"]
EARS = ["left_ear", "right_ear", "left_inner_ear", "right_inner_ear"]


def sampled(index: int):
    rng = np.random.default_rng([7, index])
    return cats.sample_identity(rng), cats.sample_view(rng)


def drawn(cat, view, size: int = 64):
    return cats.render(cat, view, size, 2)


def neutral(cat):
    """Mouth closed and eyes open."""
    return cats.changed(cats.changed(cat, "mouth_open", -1), "eyes_closed", -1)


def pixels(mask: np.ndarray, names: list[str]) -> int:
    return int(np.isin(mask, [CLASS[name] for name in names]).sum())


@pytest.fixture(scope="module")
def pictures():
    images, masks = zip(*(drawn(*sampled(index)) for index in range(16)), strict=True)
    return np.stack(images), np.stack(masks)


def test_a_cat_depends_on_its_seed_alone(pictures):
    images, masks = pictures
    image, mask = drawn(*sampled(3))
    assert image.dtype == mask.dtype == np.uint8 and image.shape == (64, 64, 3) and mask.shape == (64, 64)
    assert np.array_equal(image, images[3]) and np.array_equal(mask, masks[3])
    assert not np.array_equal(images[3], images[4])


def test_every_part_occurs(pictures):
    _, masks = pictures
    missing = [name for name, number in CLASS.items() if not (masks == number).any()]
    assert not missing
    for name in ("fur", "neck", "nose", "muzzle", "whisker_pads", "mouth", "left_ear", "right_ear"):
        assert ((masks == CLASS[name]).any((1, 2))).mean() > 0.9, name


def test_parts_lie_in_the_order_of_a_face(pictures):
    _, masks = pictures
    rows, columns = (grid[None].repeat(len(masks), 0) for grid in np.mgrid[:64, :64])
    height = {name: rows[masks == number].mean() for name, number in CLASS.items()}
    order = ["left_inner_ear", "left_eye", "nose", "mouth", "neck"]
    assert sorted(order, key=height.get) == order
    for part in ("eye", "pupil", "ear", "inner_ear"):  # the cat's own left is at the right of the picture
        assert columns[masks == CLASS[f"left_{part}"]].mean() > columns[masks == CLASS[f"right_{part}"]].mean() + 8


@pytest.mark.parametrize(
    ("name", "amount", "parts", "more"),
    [
        ("ear_size", 0.4, EARS, True),
        ("eyes_closed", 1.0, EYES, False),
        ("eyes_wide", 1.0, EYES, True),
        ("mouth_open", 1.0, ["mouth"], True),
    ],
)
def test_a_change_is_seen_in_its_parts_alone(name, amount, parts, more):
    moved = 0
    for index in (0, 1, 2, 5):
        cat, view = sampled(index)
        before, after = drawn(cat, view), drawn(cats.changed(cat, name, amount), view)
        sizes = pixels(before[1], parts), pixels(after[1], parts)
        moved += (sizes[1] - sizes[0]) * (1 if more else -1)
        differs, reach = (before[0] != after[0]).any(-1), 16 if name == "mouth_open" else 8
        rows, columns = np.where(
            np.isin(before[1], [CLASS[p] for p in parts]) | np.isin(after[1], [CLASS[p] for p in parts])
        )
        near = np.zeros_like(differs)
        for row, column in zip(rows, columns, strict=True):
            end = 64 if name == "mouth_open" else row + 8  # the chin moves with the mouth
            near[max(0, row - 6) : end, max(0, column - reach) : column + reach + 1] = True
        assert differs.any() and not (differs & ~near).any()
    assert moved > 20


def test_a_change_keeps_everything_else():
    cat, view = sampled(0)
    before = cats.attributes(cat, view)
    after = cats.attributes(cats.changed(cat, "ear_size", 0.3), view)
    assert {name for name in before if before[name] != after[name]} == {"ear_size", "ear_length"}
    assert all(isinstance(value, float) for value in before.values())
    assert cats.changed(cat, "mouth_open", 9).mouth_open == 1
    with pytest.raises(UserError, match="tail_length"):
        cats.changed(cat, "tail_length", 1)


def test_picture_and_mask_agree(pictures):
    """Pupils are darker than the eyes around them, and the background is that of an empty picture."""
    images, masks = pictures
    grey = images.mean(-1)
    pupils = np.isin(masks, [CLASS["left_pupil"], CLASS["right_pupil"]])
    eyes = np.isin(masks, [CLASS["left_eye"], CLASS["right_eye"]])
    assert grey[pupils].mean() + 15 < grey[eyes].mean()
    cat, view = sampled(2)
    plain = view.__class__(**vars(view) | {"backdrop": "plain", "colours": ((0.0, 0.9, 0.1),) * 2})
    image, mask = drawn(cat, plain)
    green = (image.astype(int)[..., 1] - image.max(-1, initial=0, where=[True, False, True])) > 120
    assert (green == (mask == 0)).mean() > 0.97


def test_a_larger_picture_shows_the_same():
    cat, view = sampled(1)
    small, large = drawn(cat, view), drawn(cat, view, 128)
    halved = large[0].reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(halved - small[0]).mean() < 8


@pytest.mark.parametrize(
    ("edit", "name", "amount", "parts"),
    [
        ("bigger_ears", "ear_size", 0.4, EARS),
        ("closed_eyes", "eyes_closed", 1.0, EYES),
        ("wide_eyes", "eyes_wide", 1.0, EYES),
        ("open_mouth", "mouth_open", 1.0, ["mouth"]),
    ],
)
def test_the_edits_of_the_mask_go_the_way_of_the_true_change(edit, name, amount, parts):
    edits = load_edits(PROJECT_ROOT / "params" / "edits" / "cats.yaml", cats.CLASSES.names)
    gains = []
    for index in range(6):
        cat, view = neutral(sampled(index)[0]), sampled(index)[1]
        _, mask = drawn(cat, view)
        target, _ = target_mask(
            edits[edit], mask, class_names=cats.CLASSES.names, donors=mask[None], donor_attributes=[{}]
        )
        true = drawn(cats.changed(cat, name, amount), view)[1]
        gains.append([pixels(other, parts) - pixels(mask, parts) for other in (target, true)])
    wanted, real = np.mean(gains, 0)
    assert 0.4 < wanted / real < 2.5, gains
