"""The rendered cars: what a picture depends on, what `changed` changes, where the parts are, the stage's archives."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion

from editgan.config import load_params
from editgan.data import cars, stage
from editgan.data.archive import load_attributes, load_classes, load_images, load_masks
from editgan.data.cars.paint import CLASS
from editgan.data.cars.view import camera
from editgan.data.params import RENDERED, DataParams
from editgan.data.renderers import PROTOCOLS, RENDERERS
from editgan.data.rendering import rendered_recipe
from editgan.data.training import changed_pictures, training_folder
from editgan.editing.edits import load_edits, target_mask
from editgan.errors import UserError
from editgan.judges.stage import training_halves
from editgan.runtime.stage import StageContext
from editgan.runtime.tracking import offline_run

WHEELS = [CLASS[name] for name in ("wheels", "rims", "spokes")]


def sample(index: int) -> tuple[cars.Identity, cars.View]:
    rng = np.random.default_rng([0, 0, index])
    return cars.sample_identity(rng), cars.sample_view(rng)


def side_view(view: cars.View) -> cars.View:
    """The car's right side, nose to the right of the picture."""
    return replace(view, azimuth=np.pi / 2, roll=0.0, steer=0.0, height=1.8)


@pytest.fixture(scope="module")
def pictures():
    things = [sample(index) for index in range(24)]
    images, masks = zip(*(cars.render(who, view, 64, 2) for who, view in things), strict=True)
    return things, np.stack(images), np.stack(masks)


@pytest.fixture(scope="module")
def labelled():
    """The labelled cars of the default seed: the first of the pool."""
    draw = RENDERERS["cars"].draw
    return np.stack([draw("pool", index, seed=0, few_shot=16, resolution=64)[1] for index in range(16)])


def test_a_car_depends_on_nothing_but_its_random_stream():
    script = (
        "import hashlib, numpy as np; from editgan.data import cars; r = np.random.default_rng([0, 0, 7]);"
        " w, v = cars.sample_identity(r), cars.sample_view(r); i, m = cars.render(w, v, 64, 2);"
        " print(hashlib.sha256(i.tobytes() + m.tobytes()).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    cars.render(*sample(3), 64, 2)
    image, mask = cars.render(*sample(7), 64, 2)
    assert hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest() == elsewhere.strip()


def test_labelled_cars_show_every_part(labelled):
    shown = np.stack([np.bincount(mask.ravel(), minlength=len(CLASS)) > 2 for mask in labelled]).sum(0)
    assert len(CLASS) >= 16 and (shown >= 3).all(), dict(zip(CLASS, shown.tolist(), strict=True))


def test_cars_fill_the_picture_and_stay_inside(pictures):
    _, _, masks = pictures
    car = masks > 0
    assert not car[:, 0].any() and not car[:, :, [0, -1]].any() and not car[:, -1].any()
    assert (np.ptp(np.argwhere(car.any(1))[:, 1]) > 40) and (car.any(1).sum(1) > 0.7 * 64).all()


def test_parts_lie_where_they_are_on_a_car():
    rows, columns = np.mgrid[:64, :64]
    for index in range(6):
        who, view = sample(index)
        _, mask = cars.render(who, side_view(view), 64, 2)
        place = {name: (rows[mask == k].mean(), columns[mask == k].mean()) for name, k in CLASS.items() if k in mask}
        assert place["roof"][0] < place["windows"][0] < place["doors"][0] < place["wheels"][0]
        assert place["bonnet"][1] > place["mirrors"][1] > place["doors"][1] > place["tail_lights"][1]
        on = "lit_headlights" if who.headlights else "headlights"
        assert place[on][1] > place["mirrors"][1]


def test_the_front_shows_headlights_and_the_rear_tail_lights():
    who, view = sample(0)
    _, front = cars.render(who, replace(view, azimuth=0.1), 64, 2)
    _, rear = cars.render(who, replace(view, azimuth=np.pi - 0.1), 64, 2)
    lamps = [CLASS["headlights"], CLASS["lit_headlights"], CLASS["grille"], CLASS["windscreen"]]
    assert not (front == CLASS["tail_lights"]).any() and not np.isin(rear, lamps).any()
    assert (rear == CLASS["tail_lights"]).sum() > 20 and np.isin(front, lamps).sum() > 100
    for mask in (front, rear):
        assert (mask == CLASS["plate"]).sum() > 6


@pytest.fixture(scope="module")
def side_views():
    """Cars seen from the side, without and with a change, by name: [(image, mask, image, mask), ...]."""
    made = {}
    for name in ("wheel_size", "roof_height", "bonnet_length"):
        made[name] = []
        for who, view in map(sample, range(4)):
            pair = who, cars.changed(who, name, cars.CHANGES[name][1])
            made[name].append([part for one in pair for part in cars.render(one, side_view(view), 64, 2)])
    return made


def test_changes_leave_the_background_alone(side_views):
    for name, views in side_views.items():
        for image, mask, other, after in views:
            far = ~binary_dilation((mask > 0) | (after > 0), iterations=10)  # beyond the car's shadow
            assert np.array_equal(image[far], other[far]), name


def test_bigger_wheels_leave_the_roof_where_it_is(side_views):
    for _, mask, _, after in side_views["wheel_size"]:
        assert np.isin(after, WHEELS).sum() > 1.2 * np.isin(mask, WHEELS).sum()
        assert np.array_equal(mask == CLASS["roof"], after == CLASS["roof"])


def test_a_higher_roof_leaves_the_wheels_where_they_are(side_views):
    for image, mask, other, after in side_views["roof_height"]:
        assert top(mask) - top(after) >= 2, "pixels"
        wheels = np.isin(mask, WHEELS)
        assert (wheels != np.isin(after, WHEELS)).sum() <= 2, "at their edge"
        hubs = binary_erosion(wheels, iterations=2)
        assert np.abs(image[hubs].astype(int) - other[hubs]).max() <= 8


def test_a_longer_bonnet_moves_the_nose_alone(side_views):
    for _, mask, _, after in side_views["bonnet_length"]:
        columns, others = np.nonzero(mask)[1], np.nonzero(after)[1]
        assert others.max() - columns.max() >= 2 and others.min() == columns.min()
        behind = np.arange(64) < np.nonzero(mask == CLASS["doors"])[1].max() - 4
        assert (mask[:, behind] == after[:, behind]).mean() > 0.99


def top(mask: np.ndarray) -> int:
    return int(np.nonzero(mask)[0].min())


def test_lit_headlights_are_brighter_and_labelled():
    who, view = sample(1)
    view = replace(view, azimuth=0.5)
    off = replace(who, headlights=0.0)
    (dark, before), (lit, after) = (cars.render(one, view, 64, 2) for one in (off, cars.changed(off, "headlights", 1)))
    lamp = before == CLASS["headlights"]
    assert lamp.sum() > 8 and np.array_equal(lamp, after == CLASS["lit_headlights"])
    assert lit[lamp].mean() > dark[lamp].mean() + 20
    assert np.array_equal(lit[~binary_dilation(lamp)], dark[~binary_dilation(lamp)])


def test_more_spokes_are_seen_on_the_rims_alone():
    who, view = sample(10)
    _, few = cars.render(replace(who, spokes=5), side_view(view), 256, 1)
    _, many = cars.render(cars.changed(replace(who, spokes=5), "spokes", 6), side_view(view), 256, 1)
    changed = few != many
    assert changed.any() and np.isin(few[changed], WHEELS).all()


def test_a_car_is_the_same_at_every_resolution():
    who, view = sample(1)
    small, _ = cars.render(who, view, 32, 2)
    large, _ = cars.render(who, view, 128, 1)
    assert np.abs(large.reshape(32, 4, 32, 4, 3).mean((1, 3)) - small).mean() < 4


def test_unknown_attributes_are_refused():
    who, _ = sample(0)
    with pytest.raises(UserError, match="no attribute 'sunroof' to change; known: wheel_size"):
        cars.changed(who, "sunroof", 1)


def test_attributes_are_numbers_and_name_every_change(pictures):
    things, _, _ = pictures
    for who, view in things:
        row = cars.attributes(who, view)
        assert json.loads(json.dumps(row)) == row and all(type(value) in (int, float) for value in row.values())
        assert set(cars.CHANGES) <= set(row)
    for name, (low, high) in cars.CHANGES.items():
        who, view = things[0]
        who = replace(who, headlights=0.0)
        assert cars.attributes(cars.changed(who, name, high), view)[name] > cars.attributes(who, view)[name] > low


def test_bodies_and_paints_vary():
    drawn = [sample(index)[0] for index in range(300)]
    for field, least in (("body", 7), ("paint_name", 8), ("spokes", 5), ("grille", 4)):
        assert len({getattr(who, field) for who in drawn}) >= least, field
    plain = sum(who.paint_name in ("white", "black", "grey", "silver") for who in drawn) / len(drawn)
    assert 0.7 < plain < 0.9


def test_a_camera_projects_along_its_rays():
    who, view = sample(5)
    eye = camera(view, who.frame, who.shape.width)
    rays = eye.rays(16)
    points = eye.position + 7.0 * rays.reshape(-1, 3)
    x, y, near = eye.project(points).T
    grid = (np.arange(16) + 0.5) / 16
    assert np.allclose(x.reshape(16, 16), grid[None, :], atol=1e-5) and np.allclose(near, 1 / 7, atol=1e-6)
    assert np.allclose(y.reshape(16, 16), grid[:, None], atol=1e-5)


def test_edits_of_cars_change_labelled_masks(project_root, labelled):
    edits = load_edits(project_root / "params/edits/cars.yaml", cars.CLASSES.names)
    assert len(edits) == 5
    for name, edit in edits.items():
        changed = [
            (target_mask(edit, mask, class_names=cars.CLASSES.names, donors=labelled, donor_attributes=[])[0] != mask)
            for mask in labelled
        ]
        assert sum(one.sum() >= 4 for one in changed) >= 5, name


def test_every_rendered_source_has_a_renderer():
    assert tuple(RENDERERS) == RENDERED
    assert set(RENDERED) < set(get_args(DataParams.model_fields["source"].annotation))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, project_root):
    root = tmp_path_factory.mktemp("cars")
    params = load_params(project_root / "params/cars.yaml")
    few = params.data.model_copy(update={"train": 6, "pool": 3, "val": 2, "test": 2, "reference": 2})
    context = StageContext(
        name="data", params=params.model_copy(update={"data": few, "resolution": 32}), root=root,
        out=root / "outputs/data", work=root, run=offline_run(), device=torch.device("cpu"),
    )  # fmt: skip
    context.out.mkdir(parents=True)
    stage.run(context)
    return context


def test_stage_data_makes_all_splits_of_cars(outputs):
    data = outputs.out
    assert load_images(data / "pool.zip").shape == (3, 3, 32, 32) and load_masks(data / "val.zip").max() > 0
    assert load_classes(data / "classes.json").names == cars.CLASSES.names
    rows = [load_attributes(data / f"{split}.zip") for split in ("test", "test_smiling")]
    for before, after in zip(*rows, strict=True):
        assert {name for name in before if before[name] != after[name]} == {"wheel_size"}
    metrics = json.loads((data / "metrics.json").read_text())
    assert metrics["pool"]["images"] == 3 and "smiling" not in metrics["pool"]
    recipe = json.loads((data / "recipe.json").read_text())
    assert recipe == rendered_recipe(outputs.params) and recipe["source"] == "cars"


def test_training_cars_are_rendered_on_demand(outputs):
    folder = training_folder(replace(outputs, name="generator"))
    assert load_images(folder / "train.zip").shape == (6, 3, 32, 32) and folder != outputs.out
    assert len({row["identity"] for row in load_attributes(folder / "train_labels.zip")}) == 6


def test_training_cars_are_rendered_again_with_the_attribute_of_the_benchmark_changed(outputs):
    context = replace(outputs, name="judges")
    folder, changed = training_folder(context), changed_pictures(context)
    before, after = load_attributes(folder / "train_labels.zip"), load_attributes(changed)
    assert [row["wheel_size"] - old["wheel_size"] for row, old in zip(after, before, strict=True)] == [
        pytest.approx(0.06)
    ] * 6
    kept = [{name: row[name] for name in row if name != "wheel_size"} for row in (*before, *after)]
    assert kept[:6] == kept[6:], "nothing else differs"
    every = PROTOCOLS["cars"].model_copy(update={"low": 1.0, "high": 2.0})
    halves = training_halves(folder, every, 0, changed)
    assert sum(len(half.images) for half in halves.values()) == 12, "every car without and with it"
    assert all(half.smiling.sum() * 2 == len(half.smiling) for half in halves.values())
    assert changed_pictures(replace(context, params=params_of_heads(outputs.params))) is None


def params_of_heads(params):
    return params.model_copy(update={"data": params.data.model_copy(update={"source": "heads"})})
