"""Small sources of pictures for tests: faces of a few flat colours, in the layouts that stage `data` reads."""

import csv
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from editgan.config import Params
from editgan.data import stage
from editgan.data.archive import load_attributes
from editgan.data.sources import celeba_hq
from editgan.runtime.stage import StageContext
from editgan.runtime.tracking import offline_run

SPLITS = ("train", "pool", "val", "test", "reference")
COUNTS = {"train": 24, "pool": 8, "few_shot": 4, "val": 8, "test": 4, "reference": 6}
CLASSES = '[{"name": "background", "colour": [0, 0, 0]}, {"name": "face", "colour": [250, 200, 150]}]'
BOXES = {  # parts of the drawn face, top, left, bottom, right in 64ths of the side
    "skin": (12, 14, 58, 50),
    "l_eye": (26, 20, 30, 28),
    "r_eye": (26, 36, 30, 44),
    "nose": (30, 29, 40, 35),
    "mouth": (46, 26, 50, 38),
    "u_lip": (44, 24, 47, 40),
    "l_lip": (49, 24, 52, 40),
    "hair": (4, 10, 16, 54),
}
ATTRIBUTES = (
    "Smiling", "Mouth_Slightly_Open", "Male", "Young", "No_Beard", "Goatee", "Mustache", "Eyeglasses", "Wavy_Hair",
)  # fmt: skip


def face(index: int, side: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A face and its parts, moved, turned and coloured by its index; smiling ones show a red mouth."""
    rng = np.random.default_rng(index)
    image = np.full((side, side, 3), rng.integers(40, 220, 3), np.uint8)
    moved, turned, masks = rng.integers(-2, 3), rng.integers(-1, 2), {}
    for part, box in BOXES.items():
        top, left, bottom, right = ((place + moved) * side // 64 for place in box)
        if part == "nose":
            left, right = left + turned * side // 64, right + turned * side // 64
        masks[part] = np.zeros((side, side), bool)
        masks[part][top:bottom, left:right] = True
        image[masks[part]] = rng.integers(0, 256, 3)
    if index % 2:
        image[masks["mouth"]] = (230, 20, 20)
    return image, masks


def write_celeba_hq(root: Path, count: int = 60) -> Path:
    """The layout as distributed; three pictures a person, people in the order of the official partition."""
    images, masks = root / celeba_hq.IMAGES, root / celeba_hq.MASKS / "0"
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    rows, mapping, partition, identity = [], [], [], []
    for index in range(count):
        image, _ = face(index, 64)
        Image.fromarray(image).save(images / f"{index}.jpg", quality=95)
        for part, shown in face(index, celeba_hq.MASK_SIDE)[1].items():
            # As published: colour pictures, black and white.
            Image.fromarray(np.repeat(255 * shown[:, :, None].astype(np.uint8), 3, 2)).save(
                masks / f"{index:05d}_{part}.png", compress_level=1
            )
        said = {name: -1 for name in ATTRIBUTES} | {"Smiling": 1 if index % 2 else -1, "Young": -1 if index % 5 else 1}
        said |= {"Male": 1 if index % 3 else -1, "No_Beard": 1 if index % 7 else -1}
        rows.append(f"{index}.jpg  " + " ".join(str(said[name]) for name in ATTRIBUTES))
        original = f"{1000 + index:06d}.jpg"
        mapping.append(f"{index} {999 + index} {original}")
        partition.append(f"{original} {0 if index < 0.6 * count else 1 if index < 0.75 * count else 2}")
        identity.append(f"{original} {index // 3}")
    (root / celeba_hq.ATTRIBUTES).write_text("\n".join([str(count), " ".join(ATTRIBUTES), *rows]) + "\n")
    (root / celeba_hq.MAPPING).write_text("\n".join(["idx orig_idx orig_file", *mapping]) + "\n")
    (root / celeba_hq.PARTITION).write_text("\n".join(partition) + "\n")
    (root / celeba_hq.IDENTITY).write_text("\n".join(identity) + "\n")
    return root


def write_folder(root: Path, count: int = 56, side: int = 40, masked: bool = True) -> Path:
    """Source `folder`; two pictures a person, every other one smiling."""
    (root / "images/deep").mkdir(parents=True)
    rows = []
    for index in range(count):
        image, masks = face(index, side)
        name = f"deep/{index:03d}.jpg" if index % 4 == 0 else f"{index:03d}.png"
        Image.fromarray(image).save(root / "images" / name)
        if masked:
            path = (root / "masks" / name).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(masks["skin"].astype(np.uint8)).save(path)
        rows.append({"file": name, "person": f"p{index // 2}", "smile": index % 2, "hat": "red" if index % 3 else ""})
    if masked:
        (root / "classes.json").write_text(CLASSES)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    (root / "attributes.csv").write_text(text.getvalue())
    return root


def make_data(project: Path, params: Params, source: str, folder: Path, **counts: int) -> Path:
    """Run stage `data` in a project folder; returns outputs/data."""
    out, work = project / "outputs/data", project / "work"
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    changed = params.data.model_copy(update={"source": source, "folder": str(folder), **COUNTS, **counts})
    stage.run(
        StageContext(
            name="data",
            params=params.model_copy(update={"data": changed}),
            root=project,
            out=out,
            work=work,
            run=offline_run(),
            device=torch.device("cpu"),
        )
    )
    return out


def attributes_of(out: Path, split: str) -> list[dict]:
    return load_attributes(out / ("train_labels.zip" if split == "train" else f"{split}.zip"))


def rejected(out: Path) -> dict[str, str]:
    with (out / "rejected.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "reason"]
    return dict(rows[1:])
