"""A limit, or what Pillow lacks, is not called damage; damage is."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from convatlas.errors import UserError
from convatlas.images import (
    ImageError,
    ReadError,
    decode,
    decode_content,
    decode_draft,
    decode_opened,
    max_pixels,
    opened,
    pillow_silenced,
    size_of,
)

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
MIB = 2**20
XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
TURNED = NOISE.transpose(Image.Transpose.ROTATE_270)


def reason(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        decode(path)
    assert "\n" not in caught.value.reason
    return caught.value.reason


# Long text


def with_text(path: Path, num_bytes: int, *, kind: str, behind: bool = False, num: int = 1) -> None:
    """A PNG that is turned by XMP, with so much text or so large a color profile, before or behind its pixels."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP)
    if kind == "icc":
        NOISE.save(path, pnginfo=info, icc_profile=bytes(num_bytes))
        return
    compressed = PngImagePlugin.PngInfo()
    for i in range(num):
        if kind == "itxt":
            compressed.add_itxt(f"Comment {i}", "a" * num_bytes, zip=True)
        else:
            compressed.add_text(f"Comment {i}", "a" * num_bytes, zip=True)
    for chunk, content, _ in compressed.chunks:
        # Pillow writes text behind the pixels only if its kind is a private one.
        info.add(chunk, content, after_idat=False)
    NOISE.save(path, pnginfo=info)
    if behind:
        content = path.read_bytes()
        texts = content[content.index(b"XML:com.adobe.xmp") - 8 : content.index(b"IDAT") - 4]
        path.write_bytes(content.replace(texts, b"", 1)[:-12] + texts + content[-12:])


@pytest.mark.parametrize(
    ("kind", "num_bytes", "num", "behind"),
    [
        ("text", 1_200_000, 1, False),
        ("text", 1_200_000, 1, True),
        ("itxt", 1_200_000, 1, False),
        ("text", MIB - 1, 70, False),
        ("text", MIB - 1, 70, True),
        ("icc", 2 * MIB, 1, False),
    ],
)
def test_a_png_with_long_text_or_a_large_profile_is_read(
    kind: str, num_bytes: int, num: int, behind: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    with_text(path, num_bytes, kind=kind, num=num, behind=behind)
    # Pillow alone does not read it.
    with pytest.raises(ValueError, match=r"too large|Too much"), Image.open(path) as image:
        image.load()
    assert np.array_equal(decode(path), TURNED)
    with opened(path) as file:
        assert np.array_equal(decode_draft(file, path, 8)[0], TURNED)
    assert size_of(path) == (56, 40)


def test_damage_beside_long_text_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with_text(path, 1_200_000, kind="text")
    content = path.read_bytes()
    path.write_bytes(content[:-500])
    assert reason(path).startswith("damaged or cut short")
    path.write_bytes(content[:3000])
    assert reason(path).startswith("damaged or cut short")


def test_an_opened_png_with_long_text_behind_its_pixels_is_not_called_damaged(tmp_path: Path) -> None:
    with_text(tmp_path / "a.png", 1_200_000, kind="text", behind=True)
    with Image.open(tmp_path / "a.png") as image, pytest.raises(ImageError) as caught:
        decode_opened(image)
    assert caught.value.reason == "its text or color profile is longer than Pillow reads"


# What Pillow lacks


def patched(file_format: str, old: bytes, new: bytes) -> bytes:
    file = io.BytesIO()
    NOISE.save(file, file_format)
    content = file.getvalue()
    assert content.count(old) == 1
    return content.replace(old, new)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (patched("JPEG", b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "cannot handle 12-bit layers"),
        (patched("BMP", b"\1\0\x18\0\0\0\0\0", b"\1\0\x18\0\5\0\0\0"), r"Unsupported BMP compression \(5\)"),
        (patched("BMP", b"\1\0\x18\0\0\0\0\0", b"\1\0\x03\0\0\0\0\0"), r"Unsupported BMP pixel depth \(3\)"),
    ],
)  # fmt: skip
def test_what_pillow_does_not_read_is_no_damage(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=rf"of a kind that Pillow does not read \({expected}\)"):
        decode(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "in the format SVG, which is not read; save it as PNG or JPEG"),
        (b"8BPS\0\1", "in the format PSD, which is not read; save it as PNG or JPEG"),
        (b"II*\0\x10\0\0\0CR\2\0", "in the format camera raw, which is not read; save it as PNG or JPEG"),
    ],
)
def test_a_format_that_is_not_read_is_named(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert reason(tmp_path / "a.jpg") == expected


def test_an_image_that_was_closed_is_not_called_damaged(tmp_path: Path) -> None:
    NOISE.save(tmp_path / "a.png")
    for load in (False, True):
        image = Image.open(tmp_path / "a.png")
        if load:
            image.load()
        image.close()
        with pytest.raises(ImageError) as caught:
            decode_opened(image)
        assert caught.value.reason == "it was closed before it was read"


# This machine


class BadDisk(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


def test_a_disk_that_fails_says_nothing_of_the_content() -> None:
    with pytest.raises(ReadError, match="cannot be read \\(Input/output error\\)"):
        decode_content(BadDisk(), Path("a.jpg"))


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory as Linux does")
def test_too_little_memory_says_nothing_of_the_content(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from convatlas.images import ReadError, decode, identify\n"
        "decode(Path(sys.argv[2]))\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + 2**24,) * 2)\n"
        "try:\n"
        "    decode(Path(sys.argv[1]))\n"
        "except ReadError as error:\n"
        "    print(error.reason)\n"
    )
    NOISE.save(tmp_path / "small.png")
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.png", tmp_path / "small.png"], capture_output=True, text=True
    )
    assert done.stdout == "needs more memory than this machine has free\n", done.stderr


# The limit on pixels


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg", "gif"])
def test_the_limit_on_pixels_can_be_raised(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a.{suffix}"
    NOISE.save(path, **({"compression": "tiff_lzw"} if suffix == "tif" else {}))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert reason(path) == "larger than the limit of 500 pixels; set CONVATLAS_MAX_PIXELS higher to read it"
    monkeypatch.setenv("CONVATLAS_MAX_PIXELS", str(40 * 56))
    assert decode(path).size == NOISE.size
    assert decode_opened(NOISE).size == NOISE.size
    # For us alone.
    assert Image.MAX_IMAGE_PIXELS == 500
    monkeypatch.setenv("CONVATLAS_MAX_PIXELS", str(40 * 56 - 1))
    assert reason(path).startswith("larger than the limit of 2,239 pixels")


def test_pillows_own_limit_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    NOISE.save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode(tmp_path / "a.png").size == NOISE.size
    assert max_pixels() is None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pillow_silenced():
        assert max_pixels() == 10


@pytest.mark.parametrize("text", ["many", "0", "-1", "1e9", "2.5"])
def test_a_limit_that_is_no_number_of_pixels_is_told(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    NOISE.save(tmp_path / "a.png")
    monkeypatch.setenv("CONVATLAS_MAX_PIXELS", text)
    with pytest.raises(UserError) as caught:
        decode(tmp_path / "a.png")
    expected = f"CONVATLAS_MAX_PIXELS is {text!r}, which is not a number of pixels; it must be one, as 200000000"
    assert str(caught.value) == expected
