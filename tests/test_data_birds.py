"""The rendered birds: determinism, true counterfactuals, parts, and agreement of picture and mask."""

import numpy as np
import pytest

from editgan.data import birds
from editgan.editing.edits import fits, load_edits, target_mask
from editgan.errors import UserError
from editgan.runtime.environment import PROJECT_ROOT

CLASS = {name: number for number, name in enumerate(birds.CLASSES.names)}


def sampled(index: int):
    rng = np.random.default_rng([7, index])
    return birds.sample_identity(rng), birds.sample_view(rng)


def drawn(bird, view, size: int = 64):
    return birds.render(bird, view, size, 2)


def folded(bird):
    return birds.changed(bird, "wing_raised", -1)


@pytest.fixture(scope="module")
def pictures():
    images, masks = zip(*(drawn(*sampled(index)) for index in range(20)), strict=True)
    return np.stack(images), np.stack(masks)


def test_a_bird_depends_on_its_seed_alone(pictures):
    images, masks = pictures
    image, mask = drawn(*sampled(3))
    assert image.dtype == mask.dtype == np.uint8 and image.shape == (64, 64, 3) and mask.shape == (64, 64)
    assert np.array_equal(image, images[3]) and np.array_equal(mask, masks[3])
    assert not np.array_equal(images[3], images[4])


def test_every_part_occurs(pictures):
    _, masks = pictures
    shown = {name: (masks == number).any((1, 2)).mean() for name, number in CLASS.items()}
    assert min(shown.values()) > 0.7, shown


def test_every_kind_occurs_and_stays_in_the_picture():
    kinds = set()
    for index in range(60):
        bird, view = sampled(index)
        if bird.kind not in kinds:
            kinds.add(bird.kind)
            _, mask = drawn(folded(bird), view)
            body = np.isin(mask, [CLASS[name] for name in ("beak", "eye", "crown", "head", "legs")])
            assert not body[:, [0, -1]].any() and not body[0].any(), bird.kind
    assert len(kinds) == 6


def test_parts_lie_in_the_order_of_a_bird():
    for index in range(12):
        bird, view = sampled(index)
        _, mask = drawn(folded(bird), view)
        rows, columns = np.mgrid[:64, :64]
        height = {name: rows[mask == CLASS[name]].mean() for name in ("crown", "breast", "legs")}
        assert height["crown"] < height["breast"] < height["legs"]
        if 0.9 < abs(view.yaw) < 1.9:  # seen from the side
            ahead = np.sign(view.yaw) * (columns[mask == CLASS["beak"]].mean() - columns[mask == CLASS["wing"]].mean())
            assert ahead > 5  # a positive yaw turns it to the right


@pytest.mark.parametrize(
    ("name", "amount", "part"),
    [("beak_length", 0.8, "beak"), ("wing_raised", 1.0, "wing"), ("tail_length", 0.7, "tail")],
)
def test_a_change_is_seen_in_its_part_alone(name, amount, part):
    moved = []
    for index in range(6):
        bird, view = sampled(index)
        bird = folded(bird)
        before, after = drawn(bird, view), drawn(birds.changed(bird, name, amount), view)
        seen = [mask == CLASS[part] for _, mask in (before, after)]
        if name == "wing_raised":
            moved.append(np.where(seen[0])[0].mean() - np.where(seen[1])[0].mean())  # up
        else:
            moved.append(seen[1].sum() - seen[0].sum())
        rows, columns = np.where(seen[0] | seen[1])
        near = np.zeros((64, 64), bool)
        for row, column in zip(rows, columns, strict=True):
            near[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4] = True
        differs = (before[0] != after[0]).any(-1)
        assert differs.any() and not (differs & ~near).any()
    assert np.mean(moved) > 3 and min(moved) >= 0


def test_a_change_keeps_everything_else():
    bird, view = sampled(0)
    before = birds.attributes(bird, view)
    after = birds.attributes(birds.changed(bird, "beak_length", 0.5), view)
    assert {name for name in before if before[name] != after[name]} == {"beak_length", "beak_reach"}
    assert all(isinstance(value, float) for value in before.values())
    with pytest.raises(UserError, match="ear_size"):
        birds.changed(bird, "ear_size", 1)


def test_picture_and_mask_agree():
    """With parts of one bright colour each, the mask names them; with a plain background it outlines the bird."""
    bird, view = sampled(0)
    vivid = {"breast": (0.9, 0.1, 0.1), "belly": (0.9, 0.1, 0.1), "throat": (0.9, 0.1, 0.1), "streaks": 0.0}
    cold = {"wing": (0.1, 0.1, 0.9), "back": (0.1, 0.1, 0.9), "bars": 0.0, "perch": "branch"}
    painted = bird.__class__(**vars(bird) | vivid | cold)
    plain = view.__class__(**vars(view) | {"backdrop": "plain", "colours": ((0.0, 0.9, 0.1),) * 2})
    image, mask = drawn(painted, plain)
    red, green, blue = (image[..., k].astype(int) for k in range(3))
    warm, cool = np.isin(mask, [CLASS["breast"], CLASS["belly"]]), np.isin(mask, [CLASS["wing"], CLASS["back"]])
    assert (red > blue)[warm].mean() > 0.8 and (blue > red)[cool].mean() > 0.9
    sky = (green > red + 90) & (green > blue + 90)
    assert not (sky & (mask != 0)).mean() > 0.01


@pytest.mark.parametrize(
    ("edit", "name", "amount", "part"),
    [
        ("longer_beak", "beak_length", 0.8, "beak"),
        ("raised_wing", "wing_raised", 1.0, "wing"),
        ("longer_tail", "tail_length", 0.6, "tail"),
    ],
)
def test_the_edits_of_the_mask_go_the_way_of_the_true_change(edit, name, amount, part):
    """Their part grows, or moves, nearly as it does in the true picture."""
    described = load_edits(PROJECT_ROOT / "params" / "edits" / "birds.yaml", birds.CLASSES.names)[edit]
    changes = []
    for index in range(40):
        bird, view = sampled(index)
        row = birds.attributes(folded(bird), view)
        if len(changes) == 5 or not all(fits(row, rule) for rule in described.learn_from):
            continue
        _, mask = drawn(folded(bird), view)
        _, true = drawn(birds.changed(folded(bird), name, amount), view)
        target, _ = target_mask(
            described, mask, class_names=birds.CLASSES.names, donors=mask[None], donor_attributes=[row]
        )
        seen = [one == CLASS[part] for one in (mask, target, true)]
        size, height = [one.sum() for one in seen], [-np.where(one)[0].mean() for one in seen]
        kept = height if name == "wing_raised" else size
        changes.append([kept[1] - kept[0], kept[2] - kept[0]])
    wanted, real = np.mean(changes, 0)
    assert 0.4 < wanted / real < 2.5, changes
