"""Uncropped photographs: find faces, crop them to the framing of the heads, blend an edit back at full resolution.

detector = load_network("blazeface", "outputs/assets")
photo = read_photo("photo.jpg")
face = find_faces(detector, photo)[0]                    # the largest
editor.set_image(crop_face(photo, face, 64))
edited = editor.apply({"smile": 1.2}, refine=30)
save_png("edited.png", editor.blend(edited, photo, {0: face}).to_pil())
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from editgan.assets.alignment import HEADS, align, fit_similarity
from editgan.assets.networks.blazeface import SIZE, BlazeFace
from editgan.data.paste import paste_back
from editgan.decoding import decode_picture
from editgan.errors import UserError
from editgan.images import naming, to_float

LONGEST = 1024  # larger photos are downscaled to this side for the search
CANDIDATE = 0.5  # minimum score of a candidate, which is checked again, upright and in the framing of the heads ...
FOUND = 0.75  # ... and minimum score of a face there; measured in docs/results/photographs.md
LOOK = 256  # side of that second crop in pixels
BORDER = 1 / 16  # share of the crop's side over which an edit fades towards its border
SMALLEST = 192  # side of the smallest windows: faces in them are at least about 30 px wide


@dataclass(frozen=True)
class Photo:
    """A picture of any size: sRGB uint8 [3, H, W], transparency uint8 [H, W], and remarks on how it was read."""

    pixels: Tensor
    alpha: Tensor | None = None
    notes: tuple[str, ...] = ()

    def to_pil(self) -> Image.Image:
        """PIL RGB or RGBA with the photo's own transparency, and no metadata."""
        layers = self.pixels if self.alpha is None else torch.cat([self.pixels, self.alpha[None]])
        return Image.fromarray(np.ascontiguousarray(layers.permute(1, 2, 0).numpy()))

    def seen(self) -> Tensor:
        """The photo on white, so colours hidden under transparent pixels are ignored.  # uint8 [3, H, W]"""
        if self.alpha is None:
            return self.pixels
        white = torch.full_like(self.pixels, 255).float()
        return white.lerp(self.pixels.float(), self.alpha / 255).round().to(torch.uint8)


@dataclass(frozen=True)
class Face:
    """Position of a face in its photo: points [4, 2] (eyes, nose, mouth) in pixels; detector score in 0..1."""

    points: Tensor
    score: float

    @property
    def matrix(self) -> Tensor:
        """Similarity transform from the unit square of the heads' framing to pixels of the photo.  # [2, 3]"""
        return fit_similarity(self.points[None], torch.tensor(HEADS))[0]

    @property
    def side(self) -> float:
        """Side of that square in the photo, in pixels."""
        return float(self.matrix[:, 0].norm())


def read_photo(path: str | Path) -> Photo:
    """Read a picture of any size and mode.

    Raises:
        UserError: the file is missing, is not an image, is damaged, or is too large.
    """
    with naming(path, "image"):
        return decode_photo(path)


def decode_photo(file: str | Path | BinaryIO, *, side: int | None = None) -> Photo:
    """Decode a picture: upright, in sRGB with 8 bits (`decode_picture`); `side`: the only accepted width and height.

    Raises:
        Unusable: not an image, damaged, or too large.
    """
    picture = decode_picture(file, side=side)
    pixels = torch.from_numpy(np.ascontiguousarray(picture.pixels.transpose(2, 0, 1)))
    alpha = None if picture.alpha is None else torch.from_numpy(picture.alpha)
    return Photo(pixels=pixels, alpha=alpha, notes=picture.notes)


# --- faces ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def find_faces(detector: BlazeFace, photo: Photo) -> list[Face]:
    """The faces of a photo, largest first: upright, at least 40 px and a thirtieth of the longer side wide.

    The detector's input is 128 px wide. It gets the whole photo with a margin, then overlapping windows of half the
    side, and so on. Every candidate is checked again on an aligned crop: this corrects points, rejects non-faces.
    """
    pixels = photo.seen()
    shrink = max(1.0, max(pixels.shape[1:]) / LONGEST)
    size = [max(1, round(side / shrink)) for side in pixels.shape[1:]]
    small = to_float(F.interpolate(pixels[None], size=size, mode="bilinear", antialias=True))
    scale = torch.tensor([pixels.shape[2] / size[1], pixels.shape[1] / size[0]])
    faces: list[Face] = []
    for points in candidates(detector, small):
        face = look_again(detector, photo, Face(points=points * scale, score=0.0))
        if face.score >= FOUND and not any(same(face, other) for other in faces):
            faces.append(face)
    return sorted(faces, key=lambda face: face.side, reverse=True)


def candidates(detector: BlazeFace, image: Tensor) -> list[Tensor]:
    """Points [4, 2] of candidate faces, best first, without duplicates; float image [1, 3, H, W] in [-1, 1]."""
    all_scores, all_places = [], []
    for corners, side, shown in windows(image):
        scores, places = detector(shown)  # [M, 896], [M, 896, 8, 2]: centre, size, six points
        places = places * side
        places[:, :, 0] += corners[:, None]
        places[:, :, 2:] += corners[:, None, None]
        keep = scores.sigmoid() >= CANDIDATE
        all_scores.append(scores[keep])
        all_places.append(places[keep])
    scores, places = torch.cat(all_scores), torch.cat(all_places)
    kept: list[Tensor] = []
    for place in places[scores.argsort(descending=True)]:
        if not any(overlap(place, other) > 0.5 for other in kept):
            kept.append(place)
    return [place[2:6] for place in kept]


def windows(image: Tensor) -> Iterator[tuple[Tensor, int, Tensor]]:
    """Square windows, from the whole with a margin to ever smaller ones: corners [M, 2], side, [M, 3, 128, 128]."""
    height, width = image.shape[2:]
    side = math.ceil(1.5 * max(height, width))
    while True:
        wide, high = max(0, side - width), max(0, side - height)
        left, top = wide // 2, high // 2
        padded = F.pad(image, (left, wide - left, top, high - top), mode="replicate")
        corners = [(x, y) for y in starts(padded.shape[2], side) for x in starts(padded.shape[3], side)]
        cut = torch.cat([padded[:, :, y : y + side, x : x + side] for x, y in corners])
        shown = F.interpolate(cut, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
        yield torch.tensor(corners) - torch.tensor([left, top]), side, shown
        side //= 2
        if side < SMALLEST:
            return


def starts(length: int, side: int) -> list[int]:
    """Start positions of windows that cover a length, each overlapping the next by at least half."""
    count = max(1, math.ceil((length - side) / (side / 2)) + 1)
    return [round(i * (length - side) / max(1, count - 1)) for i in range(count)]


def overlap(first: Tensor, second: Tensor) -> float:
    """Share of the smaller of two boxes that lies within the other; rows 0 and 1 are centre and size."""
    low = torch.maximum(first[0] - first[1] / 2, second[0] - second[1] / 2)
    high = torch.minimum(first[0] + first[1] / 2, second[0] + second[1] / 2)
    smaller = torch.minimum(first[1].prod(), second[1].prod())
    return float((high - low).clamp(min=0).prod() / smaller.clamp(min=1e-6))


def look_again(detector: BlazeFace, photo: Photo, face: Face) -> Face:
    """Detect a face again on its own upright crop; returns its points and score."""
    crop = to_float(crop_face(photo, face, LOOK)[None])
    scores, points = detector.detect(crop)
    matrix = face.matrix
    return Face(points=points[0, :4] / LOOK @ matrix[:, :2].T + matrix[:, 2], score=float(scores[0]))


def same(first: Face, second: Face) -> bool:
    """Whether two detections show the same face: their distance is less than half a face."""
    distance = (first.points.mean(0) - second.points.mean(0)).norm()
    return float(distance) < 0.25 * max(first.side, second.side)


def chosen(faces: Sequence[Face], number: int | None, name: str) -> list[Face]:
    """Select a face by number (1 is the largest), or all of them (None).

    Raises:
        UserError: no face was found, or none with that number; the message names the picture.
    """
    if not faces:
        raise UserError(
            f"{name}: no face was found; the face should be frontal, upright, and at least 40 px and a "
            "thirtieth of the picture wide"
        )
    if number is not None and number > len(faces):
        count = "1 face was" if len(faces) == 1 else f"{len(faces)} faces were"
        raise UserError(f"{name}: --face {number} was requested, but {count} found")
    return list(faces) if number is None else [faces[number - 1]]


def whole(photo: Photo, name: str) -> Face:
    """A square picture as a whole, in the place of a face, for classes without faces.

    Raises:
        UserError: it is not square; the message names the picture.
    """
    height, width = photo.pixels.shape[1:]
    if height != width:
        raise UserError(f"{name}: is {width}x{height}; crop it to a square, framed like the training pictures")
    return Face(points=torch.tensor(HEADS) * width, score=1.0)


# --- into the framing of the heads, and back --------------------------------------------------------------------------


def crop_face(photo: Photo, face: Face, size: int) -> Tensor:
    """The face in the framing of the rendered heads; beyond the border of the photo, edge pixels are repeated.

    Returns:
        uint8 [3, size, size]
    """
    left, top, right, bottom = bounds(face, photo, margin=0.1)
    alpha = None if photo.alpha is None else photo.alpha[top:bottom, left:right]
    window = Photo(photo.pixels[:, top:bottom, left:right], alpha).seen()
    points = face.points - torch.tensor([left, top])
    crop = align(window[None].float(), HEADS, size, points[None])
    return crop[0].round().clamp(0, 255).to(torch.uint8)


def bounds(face: Face, photo: Photo, margin: float = 0.0) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the photo's pixels that the face's square covers; at least one pixel."""
    corners = torch.tensor([[x, y] for x in (-margin, 1 + margin) for y in (-margin, 1 + margin)])
    places = corners @ face.matrix[:, :2].T + face.matrix[:, 2]
    height, width = photo.pixels.shape[1:]
    left, top = (math.floor(value) for value in places.amin(0).tolist())
    right, bottom = (math.ceil(value) for value in places.amax(0).tolist())
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, max(min(right, width), left + 1), max(min(bottom, height), top + 1)


def blend(photo: Photo, face: Face, before: Tensor, after: Tensor, region: Tensor) -> Photo:
    """Add the change that an edit made to the photo, at full resolution, within the edited region only.

    The difference of the edited and the unedited reconstruction is upsampled (bicubic) and added, so the photo keeps
    its detail. The difference fades out around the region and towards the border of the crop.

    Args:
        before, after: the face's reconstruction, unedited and edited  # uint8 [3, S, S]
        region: edited region  # bool [S, S]
    Returns:
        the photo; pixels beyond the faded region and the transparency are unchanged
    """
    size = region.shape[-1]
    difference = after.float() - before.float()  # [3, S, S]
    black = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    soft = paste_back(black, 255 - black, region[None])[0, :1].float() / 255  # [1, S, S]
    inward = torch.arange(size, dtype=torch.float32)
    inward = (torch.minimum(inward, size - 1 - inward) / (BORDER * size)).clamp(max=1)  # 0 at the border
    weight = soft * torch.minimum(inward[:, None], inward)

    left, top, right, bottom = bounds(face, photo)
    x, y = torch.arange(left, right) + 0.5, torch.arange(top, bottom) + 0.5
    a, b, shift = face.matrix[0, 0], face.matrix[1, 0], face.matrix[:, 2]
    u, v = x - shift[0], (y - shift[1])[:, None]
    grid = torch.stack([a * u + b * v, a * v - b * u], dim=-1) / (a * a + b * b)  # shares of the crop  # [h, w, 2]
    grid = (grid * 2 - 1)[None]
    enlarged = F.grid_sample(difference[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
    alpha = F.grid_sample(weight[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    pixels = photo.pixels.clone()
    part = pixels[:, top:bottom, left:right]
    part[:] = (part.float() + alpha * enlarged).round().clamp(0, 255).to(torch.uint8)
    return replace(photo, pixels=pixels)
