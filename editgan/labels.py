"""Decode part masks of any program: by pixel values or by colours. Does not import torch."""

import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image

from editgan.decoding import NOTES, Source, decoding, open_picture
from editgan.errors import Unusable

IGNORE = 255  # pixel value of a mask: no label
TOLERANCE = 24  # a painted colour may differ by this much (of 255, in each channel) from that of its class
ROUNDED = 4  # lossy formats and colour profiles change flat areas by so much
AREA = 0.01  # share of a mask's pixels from which an area is named whose colour no class has
STRAY = 0.1  # share of the pixels on edges whose colour may be no mixture of classes beside it, as at corners
MOST_COLOURS = 200_000  # a mask with soft edges has fewer
MOST_EDGES = 2_000_000  # pixels of a mask whose colour is of no class, beyond which they are not looked at one by one


@dataclass(frozen=True)
class Mask:
    """Part labels, uint8 [H, W], and remarks on how they were read."""

    labels: np.ndarray
    notes: tuple[str, ...] = ()


def decode_mask(source: Source, classes: int, palette: np.ndarray | None = None, *, ignore: bool = False) -> Mask:
    """Decode part labels, by pixel values or by colours.

    A grey picture holds class numbers. An indexed picture is read by its colours if they are those of the classes, and
    by its pixel values if its palette is another one. A picture in RGB is read by its colours: each pixel belongs to
    the nearest class within TOLERANCE. A pixel whose colour is a mixture of classes beside it, as anti-aliased edges
    have it, belongs to the nearest one of these. The transparency of indexed pictures has no meaning.

    Args:
        palette: colours of the classes, uint8 [K, 3]; None: pixel values only
        ignore: for labels to learn from: the pixel value 255 and transparent pixels mean "no label", returned as
            IGNORE. If all values are painted in the colours of classes in another order, 255 is a class, too.
    Raises:
        Unusable: not a picture, damaged, too large, or with an unknown label or colour; the message has pixel counts.
        FileNotFoundError: no such file.
    """
    picture = open_picture(source)
    notes = picture.info[NOTES]
    if picture.mode == "F":
        raise Unusable("its pixels are floating-point numbers; save class numbers with 8 bits")
    with decoding("a mask"):
        numbers, colours, void = _layers(picture)
    if picture.mode != "P" and _is_lossy(picture):
        if numbers is not None:
            raise Unusable("is a grey picture of a lossy format, which alters class numbers; save it as PNG")
        notes.append("is of a lossy format, which alters colours at the edges of parts; better save it as PNG")
    if void.any() and not ignore:
        raise Unusable(f"has {void.sum()} transparent pixels; fill them with the colours of the parts")
    if ignore and numbers is not None and not _all_painted(numbers, colours, palette, indexed=picture.mode == "P"):
        if np.array_equal(np.unique(numbers), (0, IGNORE)):
            raise Unusable("has the values 0 and 255 only; 255 means no label, so save parts with their class numbers")
        void = void | (numbers == IGNORE)
    if void.any():
        notes.append(f"{void.sum()} pixels have no label")
    if picture.mode == "1" and classes > 2:
        notes.append("is black and white; white was taken as class 1")
    labels = np.full(void.shape, IGNORE, np.uint8)
    if not void.all():
        numbers, colours = (None if layer is None else layer[~void] for layer in (numbers, colours))
        labels[~void], note = _labels(numbers, colours, ~void, classes, palette, indexed=picture.mode == "P")
        notes += note
    return Mask(labels, tuple(notes))


def scaled_mask(mask: Mask, width: int, height: int) -> Mask:
    """The mask at another size, each pixel from the nearest one, with a remark.

    Raises:
        Unusable: another aspect ratio.
    """
    found_height, found_width = mask.labels.shape
    if (found_width, found_height) == (width, height):
        return mask
    if found_width * height != found_height * width:
        raise Unusable(f"is {found_width}x{found_height}, expected {width}x{height} or an enlargement of it")
    scaled = Image.fromarray(mask.labels).resize((width, height), Image.Resampling.NEAREST)
    return Mask(np.array(scaled), (*mask.notes, f"is {found_width}x{found_height}; scaled to {width}x{height}"))


def _all_painted(numbers: np.ndarray, colours: np.ndarray | None, palette: np.ndarray | None, *, indexed: bool) -> bool:
    """Whether all pixel values have colours of classes, and not, as in masks of this project, each that of its own."""
    if colours is None or palette is None:
        return False
    values, first = np.unique(numbers, return_index=True)
    same = (colours.reshape(-1, 1, 3)[first] == palette).all(2)  # [V, K]
    white = (colours.reshape(-1, 3)[first] == 255).all(1)  # as `encode_mask` shows IGNORE
    own = indexed and all(
        white[row] if value == IGNORE else value < len(palette) and same[row, value] for row, value in enumerate(values)
    )
    return bool(same.any(1).all()) and not own


def _is_lossy(picture: Image.Image) -> bool:
    return picture.format in ("JPEG", "MPO", "WEBP") or picture.info.get("compression") in ("jpeg", "webp")


def _layers(picture: Image.Image) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
    """Pixel values int64 [H, W] of a grey or indexed picture; its colours uint8 [H, W, 3]; where it is transparent."""
    void = np.zeros((picture.height, picture.width), bool)
    if picture.mode == "1" or picture.mode.startswith("I"):
        shown = np.array(picture.convert("RGB")) if picture.mode == "1" else None
        return np.array(picture).astype(np.int64), shown, void
    if picture.mode == "P":
        numbers = np.array(picture).astype(np.int64)
        whole = numbers.max() < len(picture.getpalette("RGB")) // 3
        return numbers, np.array(picture.convert("RGB")) if whole else None, void
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        picture = picture.convert("LA") if picture.mode == "La" else picture
        picture = picture.convert("RGBA")
        void = np.array(picture.getchannel("A")) < 128
    colours = np.array(picture.convert("RGB"))
    grey = (colours == colours[:, :, :1]).all()
    spread = 255 // (2 ** picture.info.get("bits", 8) - 1) if picture.mode == "L" else 1  # by Pillow, of 2 or 4 bits
    return colours[:, :, 0].astype(np.int64) // max(spread, 1) if grey else None, colours, void


def _labels(
    numbers: np.ndarray | None,
    colours: np.ndarray | None,
    where: np.ndarray,
    classes: int,
    palette: np.ndarray | None,
    *,
    indexed: bool,
) -> tuple[np.ndarray, list[str]]:
    """Labels [P] of the pixels `where` [H, W], and remarks, from their values [P] or colours [P, 3]."""
    if numbers is None and palette is None:
        raise Unusable("is a colour picture; save the mask with part labels as pixel values")
    if numbers is None:
        return _by_colour(colours, where, palette)
    values, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    wrong = values[(values < 0) | (values >= classes)]
    if palette is not None and colours is not None:
        shown = colours[first].astype(int)  # colour of each value  # [V, 3]
        gaps = np.abs(shown[:, None] - palette.astype(int)).max(2)  # [V, K]
        near, exact = gaps.argmin(1), gaps.min(1) == 0
        ramp = (shown == values[:, None]).all()
        # as `encode_mask` writes:
        unlabelled = indexed and bool(((exact & (near == values)) | (values == IGNORE)).all())
        greys = shown[:, 0] if (shown == shown[:, :1]).all() else np.zeros(0)
        if exact.all() and (wrong.size or not ramp):
            _check_distinct(near, palette)
            return near[np.searchsorted(values, numbers)], []
        if indexed and len(set(greys)) == len(values) and greys.max() < classes:  # numbers that were numbered anew
            return greys[np.searchsorted(values, numbers)], []
        if not indexed and wrong.size and exact.sum() > 1:  # edges between classes that are black, grey or white
            return _by_colour(colours, where, palette)
        if indexed and not ramp and not unlabelled:
            if (gaps.min(1) <= TOLERANCE).all() and len(set(near)) == len(near):
                return near[np.searchsorted(values, numbers)], _off(shown, counts, near, gaps.min(1), palette)
            own = near == values
            if (exact & ~own).any() or (exact & own).sum() > 1 or (wrong.size and (gaps.min(1) <= TOLERANCE).any()):
                return _by_colour(colours, where, palette)
            if not wrong.size:
                return numbers, ["its colours are not those of the classes; pixel values were taken as class numbers"]
    if wrong.size:
        named = ", ".join(f"{value} in {(numbers == value).sum()} pixels" for value in wrong[:3])
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise Unusable(f"has the label {named}{more}; there are {classes} parts, numbered from 0")
    return numbers, []


def _off(shown: np.ndarray, counts: np.ndarray, near: np.ndarray, gap: np.ndarray, palette: np.ndarray) -> list[str]:
    """A remark on areas whose colours are near those of classes, but not theirs: a white canvas and near-white teeth.

    Args: colours [V, 3], their numbers of pixels [V], the nearest class of each [V] (-1: none), and how far it is [V].
    """
    areas = np.flatnonzero((near >= 0) & (gap > ROUNDED) & (counts >= AREA * counts.sum()))
    areas = areas[counts[areas].argsort(kind="stable")[::-1]]
    named = [
        f"{tuple(shown[at].tolist())} in {counts[at]} pixels, as class {near[at]}, {tuple(palette[near[at]].tolist())}"
        for at in areas[:3]
    ]
    more = f"; and {len(areas) - 3} more" if len(areas) > 3 else ""
    return [f"colours that no class has were read as the nearest: {'; '.join(named)}{more}"] if named else []


def _check_distinct(labels: np.ndarray, palette: np.ndarray) -> None:
    for label in np.unique(labels):
        same = np.flatnonzero((palette == palette[label]).all(1))
        if len(same) > 1:
            raise Unusable(f"has the colour of the classes {', '.join(map(str, same))}; give each class its own colour")


def _by_colour(colours: np.ndarray, where: np.ndarray, palette: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Labels of the pixels `where` [H, W] from their colours [P, 3]: the nearest class, or on edges one beside them."""
    palette, codes = palette.astype(int), (colours.astype(np.int32) * (65536, 256, 1)).sum(1)
    _, first, inverse, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    if len(first) > MOST_COLOURS:
        raise Unusable(f"has {len(first)} different colours, so it is a photograph, not a mask")
    shown = colours[first].astype(int)  # each colour once
    nearest, gap = np.zeros(len(shown), int), np.full(len(shown), 256)
    for label, colour in enumerate(palette):
        found = np.abs(shown - colour).max(1)
        nearest[found < gap], gap = label, np.minimum(gap, found)
    if shown.max() < len(palette) and gap.any():
        raise Unusable("has class numbers in its colours; save them as the pixel values of a grey picture")
    nearest[gap > TOLERANCE] = -1
    _check_distinct(nearest[nearest >= 0], palette)
    labels, off = nearest[inverse], _off(shown, counts, nearest, gap, palette)  # [P]
    unsure = np.flatnonzero(labels < 0)
    if not len(unsure):
        return labels, off
    if len(unsure) <= MOST_EDGES:
        edges = _Edges(colours, where, palette)
        thin = np.flatnonzero((labels >= 0) & ~edges.solid(labels))
        kept = np.where(edges.solid(labels), labels, -1)
        crossed = edges.mixed(kept, thin, 2, steps=32, tolerance=4, own=labels[thin])
        labels[thin[crossed >= 0]] = crossed[crossed >= 0]  # as the mixture of two classes is the colour of a third
        labels[unsure] = edges.mixed(labels, unsure, 3, steps=8, tolerance=TOLERANCE, rings=2 * TOLERANCE)
    unknown = np.flatnonzero(labels < 0)
    rest, places, counts = np.unique(codes[unknown], return_index=True, return_counts=True)
    few = len(unknown) <= STRAY * len(unsure) <= STRAY * MOST_EDGES
    if unknown.size and few and counts.max() <= max(8, len(labels) // 2000):  # no flat area: corners of edges
        labels[unknown] = ((colours[unknown][:, None].astype(int) - palette) ** 2).sum(2).argmin(1)
    order = counts.argsort(kind="stable")[::-1]
    named = [f"{tuple(colours[unknown[places[at]]].tolist())} in {counts[at]} pixels" for at in order[:3]]
    named = ", ".join(named) + (f" and {len(rest) - 3} more" if len(rest) > 3 else "")
    if (labels < 0).any():
        raise Unusable(
            f"has colours that belong to no part: {named}; paint with those of the classes (they may differ by "
            f"{TOLERANCE} of 255) and save it as PNG"
        )
    notes = [*off, f"{len(unsure)} pixels on edges have mixed colours; each was given the class it has most of"]
    return labels, [*notes, f"{len(unknown)} of them have unknown colours, {named}"] if named else notes


@dataclass(frozen=True)
class _Edges:
    """Classes beside the pixels `where` [H, W], whose colours are uint8 [P, 3]."""

    colours: np.ndarray
    where: np.ndarray
    palette: np.ndarray

    def solid(self, labels: np.ndarray) -> np.ndarray:
        """Which pixels belong to a block of 3x3 pixels of one class: bool [P], for labels [P], -1 for none."""
        from scipy.ndimage import maximum_filter, minimum_filter  # half a second, which few masks need

        whole = np.full(self.where.shape, -1, np.int16)
        whole[self.where] = labels
        flat = (maximum_filter(whole, 3) == minimum_filter(whole, 3)) & (whole >= 0)
        return maximum_filter(flat, 3)[self.where]

    def mixed(
        self,
        labels: np.ndarray,
        pixels: np.ndarray,
        most: int,
        *,
        steps: int,
        tolerance: float,
        rings: float = 0,
        own: np.ndarray | None = None,
    ) -> np.ndarray:
        """Labels of pixels whose colours are mixtures of classes near them: the nearest one of these; -1 for others.

        Args:
            labels: of all pixels, -1 for none  # [P]
            pixels: indices of the pixels to look at  # [E]
            most: number of classes in a mixture, with shares in 1 / steps
            rings: tolerance to a single one of these classes: sharpened edges go beyond its colour
            own: a class of each pixel that does not count as near  # [E]
        """
        from scipy.spatial import KDTree

        height, width = self.where.shape
        reach = max(3, max(height, width) // 48)
        whole = np.full((height + 2 * reach, width + 2 * reach), -1, np.int16)
        whole[reach:-reach, reach:-reach][self.where] = labels
        y, x = (axis[pixels] + reach for axis in np.nonzero(self.where))
        beside, rows = np.zeros((len(pixels), len(self.palette)), bool), np.arange(len(pixels))
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            for step in range(1, reach + 1):
                found = whole[y + dy * step, x + dx * step]
                beside[rows[found >= 0], found[found >= 0]] = True
        if own is not None:
            beside[rows, own] = False
        result = np.full(len(pixels), -1)
        kinds, kind = np.unique(np.packbits(beside, axis=1), axis=0, return_inverse=True)
        for number, packed in enumerate(kinds):
            near = np.flatnonzero(np.unpackbits(packed, count=len(self.palette)))
            if not len(near):
                continue
            ours = np.flatnonzero(kind.ravel() == number)
            shown = self.colours[pixels[ours]].astype(int)  # [m, 3]
            gaps = np.abs(shown[:, None] - self.palette[near]).max(2)  # [m, n]
            found = np.where(gaps.min(1) <= rings, near[gaps.argmin(1)], -1)
            if len(near) > 1:
                shares = _shares(min(most, len(near)), steps)  # [M, 2 or 3]
                groups = np.array([*itertools.combinations(near, shares.shape[1])])  # [g, 2 or 3]
                mixtures = (shares @ self.palette[groups]).reshape(-1, 3)  # [g * M, 3]
                gap, best = KDTree(mixtures).query(shown, p=np.inf)
                group, share = np.divmod(best, len(shares))
                found = np.where(gap <= tolerance, groups[group, shares.argmax(1)[share]], found)
            result[ours] = found
        return result


def _shares(count: int, steps: int) -> np.ndarray:
    """All shares of `count` classes in 1 / steps.  # [M, count]"""
    whole = itertools.product(range(steps + 1), repeat=count)
    return np.array([shares for shares in whole if sum(shares) == steps]) / steps
