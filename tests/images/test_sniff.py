"""What a file is, from its first bytes."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.images import ReadError, identify, why_not
from convatlas.images.sniff import READ, format_of

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))


def written(name: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    NOISE.convert(mode).save(file, name)
    return file.getvalue()


@pytest.mark.parametrize("name", READ)
def test_a_format_that_is_read_is_known_by_what_pillow_writes(name: str, tmp_path: Path) -> None:
    (tmp_path / "no suffix").write_bytes(written(name))
    assert identify(tmp_path / "no suffix") == name
    assert why_not(name) is None


@pytest.mark.at_once(
    ("head", "name"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<svg\n width='4'>", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\xff\xff\xff\xffftypmif1\0\0\0\0", "HEIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw"),
        (b"II*\0\x10\0\0\0CR\2\0", "camera raw"),
        (b"8BPS\0\1", "PSD"),
        (b"\xff\x0a\0", "JPEG XL"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"P6\n4 4\n255\n", "PPM"),
        (b"P7 4 4", None),
        (b"", None),
        (b"\xff\xd8", None),
        (b"<!DOCTYPE html><html><svg >", None),
        (b"<?xml version='1.0'?><html><svg >", None),
        (b"BMW and others: a list of cars, which is long enough", None),
        (b"P1", None),
        (b"label,file\n", None),
        (b"\0\0\0\x18ftypisom\0\0\2\0isommp42", None),
    ],
)
def test_first_bytes_say_what_a_file_is(head: bytes, name: str | None) -> None:
    assert format_of(head) == name


@pytest.mark.at_once("name", ["GIF", "ICO", "PCX", "SGI", "QOI", "DDS", "EPS", "PDF"])
def test_formats_that_pillow_alone_reads_or_writes_are_told_too(name: str) -> None:
    assert format_of(written(name)) == name


@given(
    signature=st.sampled_from([b"", b"\0\0\0\x18ftyp", b"<?xml", b"P6", b"BM", b"II*\0"]),
    rest=st.binary(max_size=99),
)
def test_any_bytes_are_of_some_format_or_none(signature: bytes, rest: bytes) -> None:
    name = format_of(signature + rest)
    assert name is None or name in (*READ, "HEIF") or why_not(name)


def test_why_a_format_is_not_read_is_one_line() -> None:
    assert why_not("SVG") == "in the format SVG, which is not read; save it as PNG or JPEG"
    # Pillow's own list of what it was built with is asked.
    assert why_not("AVIF") is None


def test_a_format_without_a_signature_is_known_by_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.TGA").write_bytes(written("TGA"))
    assert identify(tmp_path / "a.TGA") == "TGA"


def test_what_cannot_be_read_is_no_format(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="there is no such file"):
        identify(tmp_path / "a.jpg")
    with pytest.raises(ReadError, match="a folder"):
        identify(tmp_path)


def test_no_torch_is_loaded_to_tell_formats() -> None:
    code = "import sys; from convatlas.images import identify, why_not; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
