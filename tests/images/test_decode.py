"""Any file becomes an upright 8-bit image, or one line that says why it cannot."""

from __future__ import annotations

import functools
import io
import os
import pickle
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.errors import UserError
from convatlas.images import (
    ImageError,
    ReadError,
    Resize,
    decode,
    decode_all,
    decode_content,
    decode_draft,
    decode_opened,
    opened,
)

ORIENTATION = 0x0112
NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
RAMP = np.add.outer(np.arange(24) * 5, np.arange(40) * 3).astype(np.uint8)
"""24 rows of 40, no two corners alike."""

ENCODINGS: dict[str, Callable[[Image.Image, io.BytesIO], None]] = {
    "jpeg": lambda image, file: image.save(file, "JPEG", quality=95),
    "progressive jpeg": lambda image, file: image.save(file, "JPEG", progressive=True),
    "png": lambda image, file: image.save(file, "PNG"),
    "bmp": lambda image, file: image.save(file, "BMP"),
    "gif": lambda image, file: image.save(file, "GIF"),
    "tiff": lambda image, file: image.save(file, "TIFF"),
    "lzw tiff": lambda image, file: image.save(file, "TIFF", compression="tiff_lzw"),
    "webp": lambda image, file: image.save(file, "WEBP", lossless=True),
    "ppm": lambda image, file: image.save(file, "PPM"),
    "avif": lambda image, file: image.save(file, "AVIF", speed=10),
    "jpeg 2000": lambda image, file: image.save(file, "JPEG2000"),
}


@functools.cache
def encoded(encoding: str) -> bytes:
    """A noisy color image, 56 wide and 40 high."""
    file = io.BytesIO()
    ENCODINGS[encoding](Image.fromarray(NOISE), file)
    return file.getvalue()


def values(image: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def complaint(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        decode(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of entries (tag, type, count, four bytes of value), little-endian."""
    table = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)


def with_exif(jpeg: bytes, content: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


# Formats and modes


@pytest.mark.parametrize("encoding", ["png", "bmp", "tiff", "lzw tiff", "webp", "ppm"])
def test_lossless_color_comes_back_exactly(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(encoded(encoding))
    image = decode(tmp_path / "image")
    assert image.mode == "RGB"
    assert np.array_equal(image, NOISE)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".pgm", ".jpg"])
def test_gray_stays_gray(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / f"a{suffix}")
    image = decode(tmp_path / f"a{suffix}")
    assert image.mode == "L"
    assert values(image) == pytest.approx(RAMP, abs=4 if suffix == ".jpg" else 0)


def test_the_content_and_not_the_suffix_says_what_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "really-png.jpg").write_bytes(encoded("png"))
    assert np.array_equal(decode(tmp_path / "really-png.jpg"), NOISE)


def test_black_and_white_becomes_gray(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "a.png")
    image = decode(tmp_path / "a.png")
    assert image.mode == "L"
    assert values(image).tolist() == [[0, 255]]


def test_palette_becomes_color(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png")
    assert values(decode(tmp_path / "a.png")).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_cmyk_jpeg_becomes_color(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = decode(tmp_path / "a.jpg")
    assert image.mode == "RGB"
    assert values(image)[8, 8] == pytest.approx([200, 40, 90], abs=4)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_become_eight(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / f"a{suffix}")
    image = decode(tmp_path / f"a{suffix}")
    assert image.mode == "L"
    assert np.array_equal(image, RAMP)


def test_sixteen_bits_in_the_other_byte_order_become_eight(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (40, 24), (RAMP.astype(">u2") * 257).tobytes()).save(tmp_path / "a.tif")
    assert np.array_equal(decode(tmp_path / "a.tif"), RAMP)


def test_sixteen_bit_portable_graymap_becomes_eight(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 40 24 65535\n" + (RAMP.astype(">u2") * 257).tobytes())
    assert np.array_equal(decode(tmp_path / "a.pgm"), RAMP)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_dark_sixteen_bit_image_stays_dark(suffix: str, tmp_path: Path) -> None:
    for value, most in ((200, 12), (4096, 16)):
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / f"a{suffix}")
        assert values(decode(tmp_path / f"a{suffix}")).max() <= most


def test_float_values_that_are_no_numbers_cause_no_warning(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "a.tif")
    try:
        image = decode(tmp_path / "a.tif")
    except ImageError:
        return
    assert image.mode == "L"


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_of_an_animation_it_is_the_first_frame(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    assert values(decode(tmp_path / f"a{suffix}"))[4, 4] == pytest.approx([250, 0, 0], abs=3)


def test_of_a_phones_two_image_jpeg_it_is_the_first(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 200))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert values(decode(tmp_path / "a.jpg"))[8, 8] == pytest.approx([200, 0, 0], abs=3)


def test_image_outlives_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("png"))
    image = decode(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    assert np.array_equal(image, NOISE)


# Transparency


def test_alpha_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(10, 20, 30, 255), (0, 0, 0, 0), (0, 0, 0, 51)])
    image.save(tmp_path / "a.png")
    assert values(decode(tmp_path / "a.png")).tolist() == [[[10, 20, 30], [255] * 3, [204] * 3]]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".gif"])
def test_fully_transparent_black_is_white_paper(suffix: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (2, 2, 6, 6))
    image.save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    decoded = values(decode(tmp_path / f"a{suffix}").convert("L"))
    assert decoded[0, 0] == 255
    assert decoded[4, 4] == 0


def test_gray_with_alpha_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("LA", (3, 1))
    image.putdata([(10, 255), (0, 0), (0, 51)])
    image.save(tmp_path / "a.png")
    assert values(decode(tmp_path / "a.png").convert("L")).tolist() == [[10, 255, 204]]


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_transparent_palette_entry_is_white(transparency: int | bytes, tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=transparency)
    assert values(decode(tmp_path / "a.png")).tolist() == [[[255, 255, 255], [10, 20, 30]]]


@pytest.mark.parametrize(("mode", "transparent"), [("L", 0), ("RGB", (0, 0, 0)), ("1", 0)])
def test_a_color_declared_transparent_is_white(mode: str, transparent: int | tuple[int, ...], tmp_path: Path) -> None:
    """PNG optimizers write this in place of an alpha channel."""
    image = Image.new(mode, (2, 1), "white")
    image.putpixel((0, 0), transparent)
    image.save(tmp_path / "a.png", transparency=transparent)
    assert values(decode(tmp_path / "a.png").convert("L")).tolist() == [[255, 255]]


# Orientation

STORED: dict[int, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.T,
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].T,
    8: lambda upright: np.rot90(upright, -1),
}
"""How a camera that writes this orientation stores an upright image."""


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_image_is_upright_whatever_its_orientation(orientation: int, suffix: str, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](RAMP)))
    stored.save(tmp_path / f"a{suffix}", exif=tags, **({"quality": 98} if suffix == ".jpg" else {}))
    assert values(decode(tmp_path / f"a{suffix}")) == pytest.approx(RAMP, abs=4 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_that_does_not_exist_changes_nothing(orientation: int, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=tags)
    assert np.array_equal(decode(tmp_path / "a.png"), RAMP)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param((0x0100, 11, 1, struct.pack("<f", 1.5)), id="width as a float"),
        pytest.param((0x010E, 11, 1, struct.pack("<f", 1.5)), id="description as a float"),
        pytest.param((0x011A, 7, 4, b"abcd"), id="density as bytes"),
    ],
)
def test_nonsense_beside_the_orientation_does_not_lose_the_image(
    entry: tuple[int, int, int, bytes], tmp_path: Path
) -> None:
    """The pixels are whole, and editors do write such tags."""
    orientation = (ORIENTATION, 3, 1, struct.pack("<HH", 6, 0))
    content = exif(*sorted([entry, orientation]))
    (tmp_path / "a.jpg").write_bytes(with_exif(encoded("jpeg"), content))
    assert decode(tmp_path / "a.jpg").size == (40, 56)


# What cannot be used


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("part", [0.1, 0.4, 0.7, 0.95])
def test_file_cut_short_is_an_error_without_a_warning(encoding: str, part: float, tmp_path: Path) -> None:
    content = encoded(encoding)
    (tmp_path / "a.jpg").write_bytes(content[: int(part * len(content))])
    complaint(tmp_path / "a.jpg")


def test_jpeg_without_its_last_byte_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("jpeg")[:-1])
    assert complaint(tmp_path / "a.jpg").startswith("damaged or cut short (")


def test_damaged_png_is_an_error(tmp_path: Path) -> None:
    content = bytearray(encoded("png"))
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(content)
    assert complaint(tmp_path / "a.png").startswith("damaged or cut short (")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html><body>404</body></html>", b"\xff\xd8", b"\x89PNG"])
def test_what_is_no_image_is_told_with_the_formats_that_are(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    expected = "not an image of a known format (JPEG, PNG, BMP, GIF, TIFF, WEBP, PPM, AVIF, JPEG2000)"
    assert complaint(tmp_path / "a.jpg") == expected


@pytest.mark.parametrize("file_format", ["ICO", "PCX", "PDF"])
def test_formats_beyond_the_list_are_not_opened(file_format: str, tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png", file_format)
    assert complaint(tmp_path / "a.png") == f"in the format {file_format}, which is not read; save it as PNG or JPEG"


# There are no pixels in these files: whoever looked for them before the limit would say "cut short".
@pytest.mark.parametrize("side", [10_000, 20_000, 2**31 - 1])
def test_header_that_claims_too_many_pixels_is_beyond_the_limit(side: int, tmp_path: Path) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b""))
    limit = f"larger than the limit of {Image.MAX_IMAGE_PIXELS:,} pixels; set CONVATLAS_MAX_PIXELS higher to read it"
    assert complaint(tmp_path / "a.png") == limit


def test_the_limit_itself_is_allowed_and_one_row_more_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (50, 40)).save(tmp_path / "limit.png")
    Image.new("L", (50, 41)).save(tmp_path / "beyond.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert decode(tmp_path / "limit.png").size == (50, 40)
    assert complaint(tmp_path / "beyond.png").startswith("larger than the limit of 2,000 pixels")


def test_missing_file_is_told(tmp_path: Path) -> None:
    assert complaint(tmp_path / "a.jpg") == "there is no such file"


def test_folder_is_told(tmp_path: Path) -> None:
    assert complaint(tmp_path) == "a folder, not an image"


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    assert complaint(tmp_path / "a.jpg") == "a symbolic link that leads back to itself"


def test_what_cannot_be_read_is_told_from_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ReadError):
        decode(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        decode(tmp_path / "a.jpg")
    assert not isinstance(caught.value, ReadError)


def test_an_error_survives_the_way_to_another_process(tmp_path: Path) -> None:
    error = pickle.loads(pickle.dumps(ImageError(tmp_path / "a.jpg", "why")))
    assert (error.path, error.reason, str(error)) == (tmp_path / "a.jpg", "why", f"{tmp_path / 'a.jpg'}: why")


def test_path_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("jpeg"))
    complaint(tmp_path / "a.jpg" / "b.jpg")


def test_image_error_is_a_mistake_of_the_user() -> None:
    assert issubclass(ImageError, UserError)


def test_decoding_in_many_threads_leaves_the_callers_warnings_alone(tmp_path: Path) -> None:
    """Python keeps one list of warning filters for all threads; a folder is decoded by many of them."""
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("jpeg"))
    before = list(warnings.filters)
    for _ in range(3):
        assert len(list(decode_all([path] * 600, lambda file, path: decode_content(file, path).size))) == 600
    assert warnings.filters == before


# Scaled in the decoder, for training


def draft(path: Path, at_least: int) -> Image.Image:
    with opened(path) as file:
        return decode_draft(file, path, at_least)[0]


def photograph(width: int, height: int) -> Image.Image:
    """Soft colors, as photographs have."""
    coarse = np.random.default_rng(1).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@given(width=st.integers(1, 700), height=st.integers(1, 700), at_least=st.integers(1, 300))
def test_a_scaled_jpeg_keeps_at_least_the_side_that_is_asked_for(
    width: int, height: int, at_least: int, scratch: Path
) -> None:
    Image.new("L", (width, height), 90).save(scratch)
    size = draft(scratch, at_least).size
    assert min(size) >= min(at_least, width, height)
    # No larger than it must be, as far as an eighth goes.
    scale = max(scale for scale in (1, 2, 4, 8) if scale == 1 or min(width, height) // at_least >= scale)
    assert size == (-(-width // scale), -(-height // scale))


def test_a_scaled_jpeg_shows_the_same_image(tmp_path: Path) -> None:
    photograph(1600, 1200).save(tmp_path / "a.jpg", quality=95)
    images = decode(tmp_path / "a.jpg"), draft(tmp_path / "a.jpg", 128)
    assert [image.size for image in images] == [(1600, 1200), (200, 150)]
    whole, scaled = (Resize(128).square(image, 3) for image in images)
    assert np.abs(whole.astype(int) - scaled).mean() < 1
    assert np.abs(whole.astype(int) - scaled).max() < 12


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_scaled_jpeg_is_upright(orientation: int, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    upright = np.asarray(photograph(640, 480))
    stored = {1: upright, 3: upright[::-1, ::-1], 6: np.rot90(upright), 8: np.rot90(upright, -1)}[orientation]
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.jpg", exif=tags, quality=95)
    image = draft(tmp_path / "a.jpg", 120)
    assert image.size == (160, 120)
    expected = photograph(640, 480).resize((160, 120), Image.Resampling.BOX)
    assert np.abs(values(image) - values(expected)).mean() < 2


def test_a_scaled_cmyk_jpeg_keeps_its_colors(tmp_path: Path) -> None:
    Image.new("RGB", (400, 400), (200, 40, 90)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = draft(tmp_path / "a.jpg", 50)
    assert (image.mode, image.size) == ("RGB", (50, 50))
    assert values(image)[25, 25] == pytest.approx([200, 40, 90], abs=4)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_half_a_jpeg_is_found_when_it_is_scaled(part: float, progressive: bool, tmp_path: Path) -> None:
    photograph(800, 800).save(tmp_path / "a.jpg", progressive=progressive)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: int(part * len(content))])
    with pytest.raises(ImageError, match="damaged or cut short"):
        draft(tmp_path / "a.jpg", 100)


def test_the_limit_is_of_the_pixels_that_the_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (800, 800)).save(tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(ImageError, match="larger than the limit"):
        draft(tmp_path / "a.jpg", 100)


def test_other_formats_are_not_scaled(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    assert np.array_equal(draft(tmp_path / "a.png", 4), NOISE)


def test_the_decoder_says_whether_it_scaled(tmp_path: Path) -> None:
    for side, suffix, expected in ((64, ".jpg", True), (63, ".jpg", False), (64, ".png", False)):
        path = tmp_path / f"a{suffix}"
        photograph(side, side).save(path)
        with opened(path) as file:
            assert decode_draft(file, path, 32)[1] is expected


# Images that are open already


@pytest.mark.parametrize("orientation", STORED)
def test_an_opened_image_becomes_what_its_file_does(orientation: int, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    rgba = np.dstack([NOISE, np.full(NOISE.shape[:2], 90, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png", exif=tags)
    with Image.open(tmp_path / "a.png") as image:
        found = decode_opened(image)
        assert image.mode == "RGBA"
    assert np.array_equal(found, decode(tmp_path / "a.png"))


def test_nothing_is_turned_twice(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = 6
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=tags)
    decoded = decode(tmp_path / "a.png")
    assert np.array_equal(decode_opened(decoded), decoded)


def test_an_opened_file_that_is_cut_short_is_an_image_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("jpeg")[:-200])
    with Image.open(path) as image, pytest.raises(ImageError, match=r"a\.jpg: damaged or cut short"):
        decode_opened(image)


def test_an_opened_image_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("L", (50, 41))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(ImageError, match="larger than the limit"):
        decode_opened(image)


# Whatever the bytes

SIGNATURES = (
    b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a", b"II*\0", b"MM\0*",
    b"RIFF\0\0\0\0WEBPVP8 ", b"P5 4 4 255 ", b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", b"\xff\x4f\xff\x51",
    b"<svg ", b"8BPS",
)  # fmt: skip


def decodes_or_complains(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    try:
        image = decode(path)
    except ImageError as error:
        message = str(error)
    else:
        assert image.mode in ("L", "RGB")
        return
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decode") / "a.jpg"


@given(signature=st.sampled_from(SIGNATURES), content=st.binary(max_size=200))
def test_random_bytes_raise_image_errors_only(signature: bytes, content: bytes, scratch: Path) -> None:
    decodes_or_complains(signature + content, scratch)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(data=st.data())
def test_mutated_files_raise_image_errors_only(encoding: str, data: st.DataObject, scratch: Path) -> None:
    content = bytearray(encoded(encoding))
    # Headers are where damage does most.
    places = st.integers(0, 200) | st.integers(0, len(content) - 1)
    for place, value in data.draw(st.dictionaries(places, st.integers(0, 255), min_size=1, max_size=8)).items():
        content[place] = value
    decodes_or_complains(bytes(content[: data.draw(st.integers(1, len(content)) | st.just(len(content)))]), scratch)


@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from([0x0100, 0x010E, ORIENTATION, 0x011A, 0x8769, 0x8825, 0xA005]),
            st.integers(0, 13),
            st.integers(0, 5),
            st.binary(min_size=4, max_size=4),
        ),
        max_size=4,
    )
)
def test_random_exif_raises_image_errors_only(entries: list[tuple[int, int, int, bytes]], scratch: Path) -> None:
    orientation = (ORIENTATION, 3, 1, struct.pack("<HH", 6, 0))
    decodes_or_complains(with_exif(encoded("jpeg"), exif(orientation, *entries)), scratch)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files as Linux lists them")
def test_no_file_stays_open(tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes(encoded("jpeg"))
    (tmp_path / "cut.jpg").write_bytes(encoded("jpeg")[:500])
    before = len(os.listdir("/proc/self/fd"))
    kept = [decode(tmp_path / "good.jpg") for _ in range(5)]
    for _ in range(5):
        complaint(tmp_path / "cut.jpg")
    assert len(kept) == 5
    assert len(os.listdir("/proc/self/fd")) == before
