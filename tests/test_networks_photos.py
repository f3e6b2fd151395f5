"""What the pretrained networks say of photographs of people; needs them under EDITGAN_PHOTOS."""

import os
from pathlib import Path

import pytest
import torch

from editgan.assets.load import load_network
from editgan.images import read_image, to_float

PEOPLE = 24


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """The same people neutral and smiling (Face Research Lab London Set): [2, PEOPLE, 3, 540, 540] in [-1, 1]."""
    folder = os.environ.get("EDITGAN_PHOTOS")
    if not folder:
        pytest.skip("EDITGAN_PHOTOS is not set: no photographs of people to look at")
    london = Path(folder) / "london"
    names = sorted(
        path.name for path in (london / "neutral").glob("*.jpg") if (london / "smiling" / path.name).exists()
    )
    read = [[read_image(london / kind / name) for name in names[:PEOPLE]] for kind in ("neutral", "smiling")]
    return torch.stack([to_float(torch.stack(images)) for images in read])


@pytest.fixture(scope="module")
def points(photos, assets_dir) -> torch.Tensor:
    scores, points = load_network("blazeface", assets_dir).detect(photos.flatten(0, 1))
    assert scores.min() > 0.8
    return points[:, :4].view(2, PEOPLE, 4, 2)


def auc(positive: torch.Tensor, negative: torch.Tensor) -> float:
    return (positive[:, None] > negative).float().mean().item()


def test_points_are_where_eyes_nose_and_mouth_are(points):
    right_eye, left_eye, nose, mouth = points.flatten(0, 1).unbind(1)
    assert (right_eye[:, 0] < nose[:, 0]).all() and (nose[:, 0] < left_eye[:, 0]).all()
    assert (right_eye[:, 1] < nose[:, 1]).all() and (nose[:, 1] < mouth[:, 1]).all()


def test_mobilefacenet_knows_people(photos, points, assets_dir):
    network = load_network("mobilefacenet", assets_dir)
    with torch.no_grad():
        neutral, smiling = (network(photos[k], points[k]) for k in (0, 1))
    cosines = neutral @ smiling.T
    others = cosines[~torch.eye(PEOPLE, dtype=torch.bool)]
    assert (cosines.argmax(1) == torch.arange(PEOPLE)).all()
    assert cosines.diagonal().mean() > 0.85 and others.mean() < 0.15


def test_dlib_resnet_knows_people(photos, points, assets_dir):
    network = load_network("dlib_resnet", assets_dir)
    with torch.no_grad():
        distances = torch.cdist(*(network(photos[k], points[k]) for k in (0, 1)))
    others = distances[~torch.eye(PEOPLE, dtype=torch.bool)]
    assert distances.diagonal().max() < 0.6 and others.mean() > 0.7


@pytest.mark.parametrize("name", ["face_api_expression", "fer"])
def test_expression_networks_see_smiles(name, photos, points, assets_dir):
    network = load_network(name, assets_dir)
    with torch.no_grad():
        neutral, smiling = (network.smile(photos[k], points[k]) for k in (0, 1))
    assert auc(smiling, neutral) > 0.9
