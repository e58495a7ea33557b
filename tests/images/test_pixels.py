"""Many modes and depths become 8-bit gray or color, and nothing of them is lost that 8 bits can hold."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.images import ImageError, decode, decode_opened


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth: int, color: int, row: bytes, width: int, *more: bytes) -> bytes:
    """One row of pixels, with chunks before them."""
    header = struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + pixels + chunk(b"IEND", b"")


def shown(content: bytes, path: Path) -> list[list[int]]:
    path.write_bytes(content)
    image = decode(path)
    with Image.open(path) as opened:
        assert np.array_equal(decode_opened(opened), image)
    return np.asarray(image)[0].tolist()


# More than 8 bits


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("darkest", [0, 3000])
def test_twelve_bits_in_sixteen_keep_their_gray_levels(suffix: str, darkest: int, tmp_path: Path) -> None:
    pixels = np.arange(darkest, 4096, dtype=np.uint16)[None]
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    assert np.array_equal(decode(tmp_path / f"a{suffix}"), (pixels / 4095 * 255).round())


@given(factor=st.floats(0.01, 1))
def test_a_set_of_twelve_bits_is_read_alike_however_dark_its_images_are(factor: float) -> None:
    scene = np.arange(4096).reshape(64, 64)
    dark = (scene * factor).astype(np.uint16)
    found = np.asarray(decode_opened(Image.fromarray(dark)))
    assert np.abs(found - scene * factor / 4095 * 255).max() <= 1


def test_a_pixel_above_twelve_bits_says_that_there_are_sixteen() -> None:
    for largest, expected in ((4095, 255), (4096, 16), (65535, 255)):
        assert np.asarray(decode_opened(Image.fromarray(np.array([[0, largest]], np.uint16)))).tolist() == [
            [0, expected]
        ]


@pytest.mark.parametrize("most", [1023, 4095, 65535])
def test_a_graymap_says_what_is_white(most: int, tmp_path: Path) -> None:
    values = np.array([0, most // 100, most // 20], ">u2")
    (tmp_path / "a.pgm").write_bytes(f"P5 3 1 {most}\n".encode() + values.tobytes())
    assert np.asarray(decode(tmp_path / "a.pgm"))[0] == pytest.approx(values / most * 255, abs=0.6)


@pytest.mark.parametrize("largest", [70_000.0, float("inf")])
def test_values_that_do_not_say_what_is_white_are_refused(largest: float, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, largest]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"of values up to .*, which do not say what is white; save it in 16 bits"):
        decode(tmp_path / "a.tif")


# Transparency


def test_a_transparent_gray_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    row = struct.pack(">4H", 0, 1000, 30000, 65535)
    content = png(16, 0, row, 4, chunk(b"tRNS", struct.pack(">H", 1000)))
    assert shown(content, tmp_path / "a.png") == [0, 255, 117, 255]


def test_a_transparent_color_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    row = struct.pack(">9H", 0, 0, 0, 1000, 1000, 1000, 30000, 30000, 30000)
    content = png(16, 2, row, 3, chunk(b"tRNS", struct.pack(">3H", 30000, 30000, 30000)))
    assert shown(content, tmp_path / "a.png") == [[0] * 3, [3] * 3, [255] * 3]


@pytest.mark.parametrize("keyword", [b"transparency", b"exif", b"icc_profile", b"Raw profile type exif"])
def test_text_is_not_taken_for_what_it_is_called(keyword: bytes, tmp_path: Path) -> None:
    content = png(8, 0, bytes([7, 9]), 2, chunk(b"tEXt", keyword + b"\0hello"))
    assert shown(content, tmp_path / "a.png") == [7, 9]


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_alpha_is_laid_on_white(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (80, 80, 80, 255))
    found = decode_opened(image.convert("LA").convert("La") if mode == "La" else image.convert("RGBa"))
    assert np.asarray(found.convert("L"))[0].tolist() == [255, 80]
