"""The reader of pictures: every mode and format that people bring, against Pillow's own decoding, and damaged files."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from editgan.data.photo import decode_photo, read_photo
from editgan.decoding import decode_picture
from editgan.errors import Unusable, UserError
from editgan.images import read_image

QUIET = dict(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr", "LAB", "F", "I"),
    "BMP": ("1", "L", "P", "RGB"),
}
KINDS = [(format, mode) for format, modes in MODES.items() for mode in modes]


def noise(mode: str, width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (height, width), dtype=np.uint16))
    if mode == "I":
        return Image.fromarray(rng.integers(0, 2**31 - 1, (height, width), dtype=np.int32))
    if mode == "F":
        return Image.fromarray(rng.random((height, width), dtype=np.float32))
    if mode == "P":
        picture = Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8), "P")
        picture.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
        return picture
    bands = [
        Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))
        for _ in Image.new(mode, (1, 1)).getbands()
    ]
    return bands[0].convert("1") if mode == "1" else Image.merge(mode, bands)


def written(picture: Image.Image, format: str, **options) -> bytes:
    content = io.BytesIO()
    picture.save(content, format, **options)
    return content.getvalue()


def oracle(content: bytes) -> np.ndarray | None:
    """What Pillow decodes, on white; None if it cannot."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            if picture.mode in ("F", "I", "LAB") or picture.mode.startswith("I;"):
                return None
            if not picture.has_transparency_data:
                return np.asarray(picture.convert("RGB"))
            white = Image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture.convert("RGBA"))
            return np.asarray(white.convert("RGB"))
    except Exception:
        return None


def decoded(content: bytes) -> np.ndarray | None:
    """What the reader sees; None if it refuses. Any other exception fails the test."""
    try:
        seen = decode_picture(io.BytesIO(content)).seen()
    except Unusable as reason:
        assert str(reason) and "\n" not in str(reason)
        return None
    assert seen.dtype == np.uint8 and seen.ndim == 3 and seen.shape[2] == 3
    return seen


# --- pictures of every kind ------------------------------------------------------------------------------------------


@settings(max_examples=60, **QUIET)
@given(st.sampled_from(KINDS), st.integers(1, 24), st.integers(1, 24), st.integers(0, 2**32 - 1))
def test_every_mode_and_size_is_seen_as_pillow_decodes_it(kind, width, height, seed):
    format, mode = kind
    content = written(noise(mode, width, height, seed), format)
    expected, seen = oracle(content), decoded(content)
    if mode in ("F", "I"):
        assert seen is None
    elif mode == "I;16":
        values = np.asarray(noise(mode, width, height, seed))
        assert np.array_equal(seen, np.repeat(np.round(values / 257)[:, :, None], 3, 2))
    elif seen is None and expected is not None:  # Pillow cannot read all that it writes, e.g. a YCbCr TIFF of 1 px
        assert mode in ("LA", "RGBA") and not np.asarray(noise(mode, width, height, seed))[:, :, -1].any()
    elif expected is not None:
        assert seen.shape == expected.shape and np.abs(seen.astype(int) - expected).max() <= 1


@settings(max_examples=60, **QUIET)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"BM"])
)
def test_random_bytes_are_a_picture_or_refused(content, start):
    decoded(start + content)


@pytest.mark.parametrize(
    "kind",
    [("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("GIF", "P"), ("WEBP", "RGBA"), ("TIFF", "RGB"), ("BMP", "RGB")],
)
def test_files_cut_at_every_length_are_a_picture_or_refused(kind):
    format, mode = kind
    content = written(noise(mode, 9, 7, 1), format)
    whole = decoded(content)
    for length in range(len(content)):
        seen = decoded(content[:length])
        assert seen is None or seen.shape == whole.shape


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with flipped bits, a hole, foreign bytes in it, or a cut end."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(data)))
        match rng.integers(4):
            case 0:
                data[place] ^= 1 << int(rng.integers(8))
            case 1:
                del data[place : place + int(rng.integers(1, 20))]
            case 2:
                data[place:place] = rng.bytes(int(rng.integers(1, 20)))
            case 3:
                del data[max(place, 8) :]
        data = data or bytearray(b"\0")
    return bytes(data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the oracle
def test_a_thousand_damaged_pictures_are_seen_as_pillow_decodes_them_or_refused():
    rng, read = np.random.default_rng(7), 0
    for number in range(1000):
        format, mode = KINDS[number % len(KINDS)]
        content = mutated(written(noise(mode, 17, 13, number), format), rng)
        expected, seen = oracle(content), decoded(content)
        if expected is not None and seen is not None:
            read += 1
            assert seen.shape == expected.shape and np.abs(seen.astype(int) - expected).max() <= 1, number
    assert read > 100


# --- one by one ------------------------------------------------------------------------------------------------------


def test_one_reader_serves_them_all(tmp_path):
    """`read_image` turns pictures, keeps 16 bits apart and puts transparency on white, as `read_photo` does."""
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)
    files = {
        "turned.jpg": written(noise("RGB", 4, 3, 0), "JPEG", exif=turned),
        "deep.png": written(Image.fromarray(grey), "PNG"),
        "clear.png": written(noise("RGBA", 4, 3, 1), "PNG"),
        "moving.gif": written(noise("P", 4, 3, 2), "GIF", save_all=True, append_images=[noise("P", 4, 3, 3)]),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        photo = read_photo(tmp_path / name)
        with pytest.warns(UserWarning, match="2 frames") if photo.notes else contextlib.nullcontext():
            assert torch.equal(read_image(tmp_path / name), photo.seen())
        assert torch.equal(decode_photo(io.BytesIO(content)).pixels, photo.pixels)
    assert read_image(tmp_path / "turned.jpg").shape == (3, 4, 3)
    assert read_photo(tmp_path / "moving.gif").notes == ("has 2 frames; the first one is used",)
    with pytest.raises(UserError, match="clear.png: is 4x3, the model needs 8x8"):
        read_image(tmp_path / "clear.png", 8)


def test_colours_are_converted_from_their_profile():
    picture = noise("RGB", 8, 8, 4)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = decode_picture(io.BytesIO(written(picture, "PNG", icc_profile=srgb)))
    assert np.array_equal(plain.pixels, np.asarray(picture)) and not plain.notes, "sRGB stays as it is"
    swapped = bytearray(srgb)
    table = {srgb[at : at + 4]: at for at in range(132, 132 + 12 * struct.unpack(">I", srgb[128:132])[0], 12)}
    red, blue = (table[name] + 4 for name in (b"rXYZ", b"bXYZ"))
    swapped[red : red + 4], swapped[blue : blue + 4] = swapped[blue : blue + 4], swapped[red : red + 4]
    other = decode_picture(io.BytesIO(written(picture, "PNG", icc_profile=bytes(swapped))))
    assert np.abs(other.pixels.astype(int) - np.asarray(picture)[:, :, ::-1]).max() <= 3, "red and blue change places"
    assert "converted" in other.notes[0]
    broken = decode_picture(io.BytesIO(written(picture, "PNG", icc_profile=b"profile")))
    assert np.array_equal(broken.pixels, np.asarray(picture)) and "damaged" in broken.notes[0]


def test_what_cannot_be_read_is_said():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = written(noise("L", 4, 4, 0), "PNG")
    huge = png[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)) + png[33:]
    text = png[:33] + chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**22))) + png[33:]
    for content, fault in (
        (huge, "is 9000x9000; the limit is 64 million pixels"),
        (text, "more than 1 MiB of text"),
        (png[:50], "cannot be read as an image"),
        (b"hello", "not PNG, JPEG, WEBP, GIF, TIFF or BMP"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0",
            r"but HEIC \(a photo of a phone\), whatever its name says; save it as PNG or JPEG",
        ),
        (b"", "GIF, TIFF or BMP, but empty"),
        (written(noise("F", 4, 4, 0), "TIFF"), "floating-point"),
        (written(noise("I", 4, 4, 0), "TIFF"), "32-bit"),
        (written(Image.new("RGBA", (4, 4)), "PNG"), "completely transparent"),
    ):
        with pytest.raises(Unusable, match=fault):
            decode_picture(io.BytesIO(content))


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_whose_zero_is_white_is_no_negative(bits):
    dark = np.full((4, 4), 2**bits - 1, f"uint{bits}")
    tags = {256: 4, 257: 4, 258: bits, 259: 1, 262: 0, 273: 128, 277: 1, 278: 4, 279: dark.nbytes}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)).ljust(128, b"\0") + dark.tobytes()
    assert not decode_picture(io.BytesIO(content)).pixels.any()
