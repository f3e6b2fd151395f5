"""Photos and archives of them, made up for the tests of `editgan import`, and what stands in for its detector."""

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editgan.assets.alignment import HEADS
from editgan.data import importing
from editgan.data.photo import Face

SIZE = 100  # of the photos here
SQUARE = torch.tensor(HEADS) * 60 + torch.tensor([20.0, 10.0])  # a face whose square is 60 px wide, at (20, 10)


@pytest.fixture(autouse=True)
def finds_one_face(monkeypatch):
    """Stands in for the detector, which test_photo.py tries: a face at one place, none in black pictures."""

    def find(detector, photo):
        return [Face(points=SQUARE.clone(), score=0.9)] if photo.pixels.any() else []

    monkeypatch.setattr(importing, "find_faces", find)
    monkeypatch.setattr(importing, "yaw_of", lambda detector, picture: 0.0)


def picture(seed: int = 0, size: int = SIZE, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(1, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def tar(path: Path, content: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, data in content.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


def rows_of(into: Path) -> dict[str, dict]:
    with (into / "attributes.csv").open(newline="") as file:
        return {row.pop("file"): row for row in csv.DictReader(file)}
