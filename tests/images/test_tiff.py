"""TIFFs that Pillow decodes wrongly and silently are decoded right, or refused with the reason."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from convatlas.images import ImageError, decode, decode_opened

RAMP = np.linspace(0, 1, 24 * 20).reshape(24, 20)
NONE, DEFLATE = 1, 8
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
MIN_IS_WHITE, MIN_IS_BLACK, RGB = 0, 1, 2


def tiff(
    pixels: npt.NDArray[Any], *, order: str = "<", photometric: int = MIN_IS_BLACK, sample_format: int = UNSIGNED,
    compression: int = NONE, planar: bool = False, more: tuple[tuple[int, int], ...] = (),
) -> bytes:  # fmt: skip
    """A TIFF of values (height, width), or (height, width, channels); planes lie one behind another if it is planar.

    Args:
        more: tags and their values, below 2^16.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    planes = np.moveaxis(pixels, -1, 0) if planar else pixels[None]
    stored = [plane.astype(pixels.dtype.newbyteorder(order)).tobytes() for plane in planes]
    strips = [zlib.compress(strip) if compression == DEFLATE else strip for strip in stored]
    height, width = pixels.shape[:2]
    begin = 8
    offsets = [begin + sum(map(len, strips[:i])) for i in range(len(strips))]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("H", [width]), 257: ("H", [height]), 258: ("H", [8 * pixels.itemsize] * channels),
        259: ("H", [compression]), 262: ("H", [photometric]), 273: ("L", offsets), 277: ("H", [channels]),
        278: ("H", [height]), 279: ("L", [len(strip) for strip in strips]), 284: ("H", [2 if planar else 1]),
        339: ("H", [sample_format] * channels), **{tag: ("H", [value]) for tag, value in more},
    }  # fmt: skip
    body = b"".join(strips)
    entries = b""
    for tag, (kind, values) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(content) > 4:
            place = begin + len(body)
            body += content
            content = struct.pack(f"{order}L", place)
        entries += struct.pack(f"{order}HHL", tag, {"H": 3, "L": 4}[kind], len(values)) + content.ljust(4, b"\0")
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}L", begin + len(body)) + body + directory


def levels(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """What is read, the same from the path and opened."""
    path.write_bytes(content)
    decoded = decode(path)
    with Image.open(path) as opened:
        assert np.array_equal(decode_opened(opened), decoded)
    return np.asarray(decoded)


def complaint(content: bytes, path: Path) -> str:
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        decode(path)
    with Image.open(path) as opened, pytest.raises(ImageError) as of_opened:
        decode_opened(opened)
    assert str(of_opened.value) == str(caught.value)
    assert "damaged" not in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize("compression", [NONE, DEFLATE])
@pytest.mark.parametrize(
    ("kind", "white", "sample_format"),
    [(np.uint8, 255, UNSIGNED), (np.uint16, 4095, UNSIGNED), (np.uint16, 65535, UNSIGNED), (np.float32, 1, FLOAT)],
    ids=["8", "12", "16", "float"],
)
@pytest.mark.parametrize("photometric", [MIN_IS_WHITE, MIN_IS_BLACK])
def test_the_smallest_value_may_be_white(
    kind: type, white: float, sample_format: int, photometric: int, compression: int, tmp_path: Path
) -> None:
    pixels = (RAMP * white if kind is np.float32 else (RAMP * white).round()).astype(kind)
    content = tiff(pixels, photometric=photometric, sample_format=sample_format, compression=compression)
    shown = RAMP if photometric == MIN_IS_BLACK else 1 - RAMP
    assert levels(content, tmp_path / "a.tif") == pytest.approx(255 * shown, abs=0.6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [NONE, DEFLATE])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_separate_planes_are_read_right_or_refused(kind: type, compression: int, order: str, tmp_path: Path) -> None:
    pixels = (np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]]) * np.iinfo(kind).max).round().astype(kind)
    content = tiff(pixels, order=order, photometric=RGB, compression=compression, planar=True)
    if kind is np.uint16 and compression == NONE:
        assert complaint(content, tmp_path / "a.tif").startswith("a TIFF of 16-bit RGB in separate planes")
    else:
        assert levels(content, tmp_path / "a.tif") == pytest.approx(pixels / np.iinfo(kind).max * 255, abs=1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [NONE, DEFLATE])
@pytest.mark.parametrize(("kind", "sample_format"), [(np.int16, SIGNED), (np.int32, SIGNED), (np.float32, FLOAT)])
def test_either_byte_order_is_read_right_or_refused(
    kind: type, sample_format: int, compression: int, order: str, tmp_path: Path
) -> None:
    white = 1 if kind is np.float32 else 255
    content = tiff((RAMP * white).astype(kind), order=order, sample_format=sample_format, compression=compression)
    if order == ">" and compression == DEFLATE:
        assert complaint(content, tmp_path / "a.tif").startswith("a compressed big-endian TIFF of ")
    else:
        assert levels(content, tmp_path / "a.tif") == pytest.approx(255 * RAMP, abs=1)


def test_signed_bytes_are_refused(tmp_path: Path) -> None:
    content = tiff((RAMP * 200 - 100).astype(np.int8), sample_format=SIGNED)
    assert complaint(content, tmp_path / "a.tif").startswith("a TIFF of signed 8-bit values")


@pytest.mark.parametrize("largest", [65536, 2**31 - 1, 2**32 - 1])
def test_values_beyond_16_bits_are_refused(largest: int, tmp_path: Path) -> None:
    content = tiff((RAMP * largest).astype(np.uint32))
    assert complaint(content, tmp_path / "a.tif").startswith(f"of values up to {largest:g}, which do not say")


@pytest.mark.parametrize("more", [((50706, 1),), ((254, 1), (330, 8))], ids=["DNG", "preview"])
def test_a_preview_of_a_raw_photograph_is_not_taken_for_the_photograph(
    more: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    content = tiff((RAMP * 255).astype(np.uint8), more=more)
    assert complaint(content, tmp_path / "a.dng").startswith("a camera raw file")


def test_a_compression_that_is_not_built_in_is_named(tmp_path: Path) -> None:
    content = tiff((RAMP * 255).astype(np.uint8), compression=34887)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageError, match="a TIFF with compression 34887, which Pillow does not read"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", [np.float64, np.uint64])
def test_bits_that_pillow_does_not_read_are_no_damage(kind: type, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(RAMP.astype(kind), sample_format=FLOAT))
    with pytest.raises(ImageError, match=r"of a kind that Pillow does not read \(unknown pixel mode\)"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_opened_tiff_that_lies_on_its_side_is_not_garbled(orientation: int, tmp_path: Path) -> None:
    content = tiff((RAMP * 255).astype(np.uint8), more=((274, orientation),))
    assert levels(content, tmp_path / "a.tif").shape == ((20, 24) if orientation > 4 else (24, 20))
