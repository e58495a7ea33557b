"""What lies beside the pixels is left out where there is much of it, and then nothing of the image changes."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.images import decode, metadata
from convatlas.images.metadata import bounded

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
EXIF = Image.Exif()
EXIF[0x112] = 6


def saved(format: str, **how: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, format, **how)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


TEXT = chunk(b"tEXt", b"k\0" + b"x" * 500)
COMMENT = b"\xff\xfe\x01\xf6" + b"x" * 500
BLOCKS = b"!\xfe" + (b"\xfa" + b"x" * 250) * 2 + b"\0"
PALETTED = 13 + 3 * 256


def padded(format: str, content: bytes, times: int) -> bytes:
    """With so much beside the pixels, around what says how it is turned."""
    match format:
        case "PNG":
            return content[:33] + TEXT * times + content[33:-12] + TEXT * times + content[-12:]
        case "JPEG":
            return content[:2] + COMMENT * times + content[2:]
    return content[:PALETTED] + BLOCKS * times + content[PALETTED:]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF"])
def test_an_image_shows_the_same_without_what_lies_beside_its_pixels(
    format: str, turned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = saved(format, exif=EXIF) if turned and format != "GIF" else saved(format)
    (tmp_path / "a").write_bytes(content)
    plain = decode(tmp_path / "a")
    file = io.BytesIO(padded(format, content, 20))
    (tmp_path / "a").write_bytes(file.getvalue())
    assert bounded(file, format) is file
    assert np.array_equal(decode(tmp_path / "a"), plain)
    monkeypatch.setattr(metadata, "MOST", 5000)
    smaller = bounded(file, format)
    assert len(smaller.read()) < len(content) + 1000
    assert np.array_equal(decode(tmp_path / "a"), plain)


@given(parts=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))), reads=st.lists(st.integers(0, 40)))
def test_parts_of_a_file_are_read_as_a_file_of_them(parts: list[tuple[int, int]], reads: list[int]) -> None:
    content = bytes(range(100))
    places = [(begin, begin + length) for begin, length in parts if length]
    expected = io.BytesIO(b"".join(content[begin:end] for begin, end in places))
    file = io.BufferedReader(metadata.Parts(io.BytesIO(content), places))
    assert file.read() == expected.getvalue()
    for place in reads:
        assert file.seek(place) == expected.seek(place)
        assert file.read(place) == expected.read(place)
        assert file.tell() == expected.tell()


def test_pixels_in_very_many_pieces_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MOST", 0)
    monkeypatch.setattr(metadata, "MOST_PARTS", 10)
    content = saved("PNG")
    (tmp_path / "a.png").write_bytes(content[:33] + (chunk(b"IDAT", b"") + TEXT) * 20 + content[33:])
    with pytest.raises(Exception, match="its pixels lie in too many pieces; save it anew"):
        decode(tmp_path / "a.png")


def test_libraries_print_nothing_about_damaged_images(tmp_path: Path) -> None:
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "group4", "lzma"):
        image = Image.fromarray(PIXELS).convert("1" if compression == "group4" else "RGB").resize((200, 200))
        image.save(tmp_path / f"{compression}.tif", compression=compression)
        content = bytearray((tmp_path / f"{compression}.tif").read_bytes())
        # Pillow writes the pixels behind the tags, and other libraries before them.
        for place in range(len(content) // 2, len(content), 7):
            content[place] ^= 255
        (tmp_path / f"{compression}.tif").write_bytes(content)
    code = (
        "import sys\nfrom pathlib import Path\nfrom convatlas.images import ImageError, decode\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try:\n        decode(path)\n    except ImageError as error:\n        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) >= 3
