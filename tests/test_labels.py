"""The reader of part masks: what painting programs and labelling tools write, and damaged files."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_decoding import mutated, written

from editgan.data.archive import encode_mask
from editgan.data.reading import read_labels
from editgan.errors import Unusable, UserError
from editgan.images import read_mask
from editgan.labels import IGNORE, TOLERANCE, decode_mask, scaled_mask

QUIET = dict(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Of CelebAMask-HQ. Three quarters of hair on background have the colour of the lower lip.
PALETTE = np.array(
    [(0, 0, 0), (204, 0, 0), (51, 51, 255), (76, 153, 0), (255, 255, 0), (0, 0, 153), (0, 0, 204)], np.uint8
)
K = len(PALETTE)
FORMATS = ("PNG", "TIFF", "BMP", "GIF")


def blobs(side: int = 32, seed: int = 0) -> np.ndarray:
    """A mask of discs, of every class.  # uint8 [side, side]"""
    rng, labels = np.random.default_rng(seed), np.zeros((side, side), np.uint8)
    y, x = np.indices(labels.shape)
    for label in (1, 6, 2, 3, 4, 5):
        cy, cx, radius = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.08, 0.3)
        labels[(y - cy * side) ** 2 + (x - cx * side) ** 2 < (radius * side) ** 2] = label
    return labels


def indexed(values: np.ndarray, palette: np.ndarray) -> Image.Image:
    picture = Image.fromarray(values.astype(np.uint8), "P")
    picture.putpalette(palette.astype(np.uint8).tobytes())
    return picture


def read(picture: Image.Image, format: str = "PNG", palette: np.ndarray | None = PALETTE, **options) -> np.ndarray:
    return decode_mask(io.BytesIO(written(picture, format)), K, palette, **options).labels


@settings(max_examples=40, **QUIET)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from(FORMATS), st.randoms(use_true_random=False))
def test_a_mask_is_the_same_in_every_mode(seed, side, format, random):
    labels = blobs(side, seed)
    order = random.sample(range(K), K)  # new number of each class
    numbered = np.array(order)[labels]
    palette = np.zeros((K, 3), np.uint8)
    palette[order] = PALETTE
    colours = Image.fromarray(PALETTE[labels])
    kinds = [indexed(labels, PALETTE), indexed(numbered, palette), colours, Image.fromarray(labels)]
    if format != "GIF":
        kinds += [colours.convert("RGBA")] if format != "BMP" else []
        kinds += [Image.fromarray(labels.astype(np.uint16))] if format != "BMP" else []
        kinds += [Image.fromarray(np.repeat(labels[:, :, None], 3, 2))]
    for picture in kinds:
        assert np.array_equal(read(picture, format), labels), picture.mode


@settings(max_examples=60, **QUIET)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM"]))
def test_random_bytes_are_a_mask_or_refused(content, start):
    decoded(start + content)


def test_masks_cut_at_every_length_are_a_mask_or_refused():
    content = written(indexed(blobs(16), PALETTE), "PNG")
    for length in range(len(content)):
        decoded(content[:length])


def decoded(content: bytes) -> np.ndarray | None:
    """The labels; None if they are refused. Any other exception fails the test."""
    try:
        labels = decode_mask(io.BytesIO(content), K, PALETTE).labels
    except Unusable as reason:
        assert str(reason) and "\n" not in str(reason)
        return None
    assert labels.dtype == np.uint8 and labels.ndim == 2 and labels.max() < K
    return labels


def pillow_labels(content: bytes) -> np.ndarray | None:
    """Labels by Pillow's own decoding where all colours are exactly those of classes; else None."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.mode not in ("P", "RGB"):
                return None
            matches = (np.asarray(picture.convert("RGB"))[:, :, None] == PALETTE).all(3)
            return matches.argmax(2) if matches.any(2).all() else None
    except Exception:
        return None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the oracle
def test_a_thousand_damaged_masks_are_read_as_pillow_decodes_them_or_refused():
    rng, read = np.random.default_rng(5), 0
    for number in range(1000):
        labels = blobs(16, number)
        kinds = (indexed(labels, PALETTE), Image.fromarray(PALETTE[labels]), Image.fromarray(labels))
        content = mutated(written(kinds[number % 3], FORMATS[number % 4]), rng)
        expected, found = pillow_labels(content), decoded(content)
        if expected is not None and found is not None:
            read += 1
            assert np.array_equal(found, expected), number
    assert read > 20


# --- painting programs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_anti_aliased_edges_go_to_a_class_beside_them(scale):
    """Also where the colour between two classes is that of a third, which `nearest colour` alone would take."""
    labels = blobs(48)
    labels[labels == 5] = 1  # no lower lip, but edges of hair look like it
    big = np.kron(labels, np.ones((scale, scale), np.uint8))
    soft = Image.fromarray(PALETTE[np.roll(big, scale // 2, 1)]).resize((48, 48), Image.Resampling.BOX)
    mask = decode_mask(io.BytesIO(written(soft, "PNG")), K, PALETTE)
    found, shifted = mask.labels, np.roll(labels, 1, 1)
    assert ((found == labels) | (found == shifted)).mean() > 0.995 and (found == 5).mean() < 0.005
    assert "on edges have mixed colours" in mask.notes[0]
    if scale == 4:
        smooth = Image.fromarray(PALETTE[labels]).resize((192, 192), Image.Resampling.BICUBIC)
        found = scaled_mask(decode_mask(io.BytesIO(written(smooth, "PNG")), K, PALETTE), 48, 48)
        assert (found.labels == labels).mean() > 0.99 and found.notes[-1] == "is 192x192; scaled to 48x48"


@settings(max_examples=30, **QUIET)
@given(st.integers(0, 1000))
def test_colours_may_differ_by_the_tolerance(seed):
    labels, rng = blobs(24, seed), np.random.default_rng(seed)
    apart = rng.integers(-TOLERANCE, TOLERANCE + 1, PALETTE.shape)
    far = np.abs(PALETTE[:, None].astype(int) - PALETTE[None]).max(2) + np.eye(K, dtype=int) * 999
    apart[far.min(1) <= 2 * TOLERANCE + 3] //= 2
    painted = (PALETTE + apart).clip(0, 255).astype(np.uint8)
    assert np.array_equal(read(Image.fromarray(painted[labels])), labels)
    assert np.array_equal(read(indexed(labels, painted)), labels)


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_areas_in_a_colour_that_no_class_has_are_named(mode):
    """A white canvas is near the white of teeth."""
    palette, labels = np.concatenate([PALETTE[1:], [(250, 250, 250)]]).astype(np.uint8), blobs() % (K - 1)
    painted = palette[labels]
    painted[labels == 0] = 255
    picture = Image.fromarray(painted) if mode == "RGB" else Image.fromarray(painted).quantize(16)
    mask = decode_mask(io.BytesIO(written(picture, "PNG")), K, palette)
    assert (mask.labels == np.where(labels == 0, K - 1, labels)).all()
    count = (labels == 0).sum()
    named = f"(255, 255, 255) in {count} pixels, as class 6, (250, 250, 250)"
    assert mask.notes == (f"colours that no class has were read as the nearest: {named}",)


def test_unknown_labels_and_colours_are_named_with_their_pixels():
    labels, purple = blobs(), Image.fromarray(PALETTE[blobs()])
    purple.paste((180, 60, 180), (4, 4, 12, 9))
    clear = Image.fromarray(PALETTE[labels]).convert("RGBA")
    clear.paste((9, 9, 9, 0), (0, 0, 4, 4))
    half = indexed(labels, PALETTE)
    half.paste(3, (0, 0, 4, 4))
    recoloured = PALETTE.copy()
    recoloured[3] = (180, 60, 180)
    for picture, fault in (
        (purple, r"\(180, 60, 180\) in 40 pixels"),
        (
            indexed(np.where(labels == 1, 9, labels), np.arange(256)[:, None].repeat(3, 1)),
            r"has the label 9 in \d+ pix",
        ),
        (Image.fromarray(np.where(labels == 1, 200, labels).astype(np.uint8)), r"has the label 200 in \d+ pixels"),
        (indexed(np.asarray(half), recoloured), r"\(180, 60, 180\) in \d+ pixels"),
        (clear, "has 16 transparent pixels"),
        (Image.fromarray(labels).convert("F"), "floating-point"),
        (Image.fromarray(np.stack([labels, 0 * labels, 0 * labels], 2)), "class numbers in its colours"),
    ):
        with pytest.raises(Unusable, match=fault):
            read(picture, "TIFF" if picture.mode == "F" else "PNG")
    with pytest.raises(Unusable, match="lossy format"):
        read(Image.fromarray(labels), "JPEG")
    with pytest.raises(Unusable, match="is a colour picture"):
        read(Image.fromarray(PALETTE[labels]), palette=None)
    with pytest.raises(Unusable, match="the colour of the classes 0, 1"):
        read(Image.fromarray(PALETTE[labels]), palette=np.zeros_like(PALETTE))


def test_another_palette_leaves_the_numbers():
    labels, rng = blobs(), np.random.default_rng(3)
    for palette in (np.arange(256)[:, None].repeat(3, 1), rng.integers(20, 250, (K, 3)) | 1):
        assert np.array_equal(read(indexed(labels, palette)), labels)
    mask = decode_mask(io.BytesIO(written(indexed(labels, palette), "PNG")), K, PALETTE)
    assert "pixel values were taken as class numbers" in mask.notes[0]


def test_what_is_not_labelled_is_ignored_where_it_is_asked_for():
    labels = blobs()
    marked = np.where(labels == 1, IGNORE, labels).astype(np.uint8)
    wide = np.zeros((256, 3), np.uint8)
    wide[:K], wide[IGNORE] = PALETTE, (224, 224, 192)
    clear = Image.fromarray(PALETTE[labels]).convert("RGBA")
    clear.putalpha(Image.fromarray(np.where(labels == 1, 0, 255).astype(np.uint8)))
    for picture in (Image.fromarray(marked), indexed(marked, wide), clear):
        assert np.array_equal(read(picture, ignore=True), marked)
        with pytest.raises(Unusable):
            read(picture)


def test_white_of_black_and_white_masks_is_never_lost_in_silence():
    """255 means "no label", but not where it is the colour of a class; 1 bit is read as 8 bits are, or it is said."""
    labels = (blobs() > 0).astype(np.uint8)
    grey, bits = Image.fromarray(labels * 255), Image.fromarray(labels * 255).convert("1")
    bright = indexed(labels * 255, np.arange(256)[:, None].repeat(3, 1))
    black_first = np.array([(0, 0, 0), (255, 255, 255)], np.uint8)
    for picture in (grey, bits):
        for palette, wanted in ((black_first, labels), (black_first[::-1], 1 - labels)):
            mask = decode_mask(io.BytesIO(written(picture, "PNG")), 2, palette, ignore=True)
            assert np.array_equal(mask.labels, wanted) and not mask.notes
    for picture in (grey, bright):
        with pytest.raises(Unusable, match="has the values 0 and 255 only"):
            read(picture, ignore=True)
    mask = decode_mask(io.BytesIO(written(bits, "PNG")), K, PALETTE)
    assert np.array_equal(mask.labels, labels) and mask.notes == ("is black and white; white was taken as class 1",)
    swapped = np.zeros((256, 3), np.uint8)
    swapped[1:K], swapped[IGNORE] = PALETTE[:-1], PALETTE[-1]
    values = np.where(blobs() == K - 1, IGNORE, blobs() + 1)
    assert np.array_equal(read(indexed(values, swapped), ignore=True), blobs())


def test_masks_that_the_project_wrote_keep_what_has_no_label():
    marked = np.where(blobs() == 1, IGNORE, blobs()).astype(np.uint8)
    for palette in (PALETTE, np.concatenate([PALETTE[:-1], np.full((1, 3), 255, np.uint8)])):
        mask = decode_mask(io.BytesIO(encode_mask(marked, palette)), K, palette, ignore=True)
        assert np.array_equal(mask.labels, marked) and mask.notes == (
            f"{(marked == IGNORE).sum()} pixels have no label",
        )
    near = np.concatenate([PALETTE[:-1], np.full((1, 3), 250, np.uint8)])
    with pytest.raises(Unusable, match=f"has the label 255 in {(marked == IGNORE).sum()} pixels"):
        decode_mask(io.BytesIO(encode_mask(marked, near)), K, near)


def test_masks_of_another_size_are_scaled_and_other_shapes_refused(tmp_path):
    labels = blobs(16)
    indexed(np.kron(labels, np.ones((4, 4), np.uint8)), PALETTE).save(tmp_path / "large.png")
    indexed(labels[:12], PALETTE).save(tmp_path / "cut.png")
    options = dict(resolution=16, classes=K, palette=PALETTE)
    with pytest.warns(UserWarning, match="large.png: is 64x64; scaled to 16x16"):
        assert np.array_equal(read_mask(tmp_path / "large.png", **options).numpy(), labels)
    with pytest.raises(UserError, match="cut.png: is 16x12, expected 16x16"):
        read_mask(tmp_path / "cut.png", **options)
    notes: list[str] = []
    content = (tmp_path / "large.png").read_bytes()
    assert np.array_equal(read_labels(content, None, (16, 16), K, PALETTE, notes), labels) and len(notes) == 1
