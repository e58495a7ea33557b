"""Images from anybody: whatever a file declares, decoding it takes bounded memory and time, or it is refused at once.

Small files of many pixels in every format and mode, and files that hold much beside their pixels.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from convatlas.images import heif
from convatlas.images.bounds import BYTES, MOST_BYTES, SPARE

CLEAR_PEAK = Path("/proc/self/clear_refs")
"""Where Linux begins anew with what a process held at most."""
SECONDS_A_PIXEL = 0.5e-6
"""Of processor time, four times what was measured of the slowest decoder in C, OpenJPEG."""
SLOW_SECONDS_A_PIXEL = 8e-6
"""Of formats that Pillow decodes in Python: PPM in text or of odd depths, BMP with RLE."""
SECONDS_A_BYTE = 2e-6
"""Of a file, as where it has nothing but empty segments."""
SECONDS = 1.0
SIDE = 6000
"""Pixels, where a test takes its time."""
SAMPLE_SIDE = 3200

pytestmark = pytest.mark.skipif(not CLEAR_PEAK.exists(), reason="only Linux tells what a process held at most")

MEASURE = """
import io, json, os, sys, time, warnings
from pathlib import Path
from PIL import Image
from convatlas.images import ImageError, Preprocessing

warnings.simplefilter("ignore")
color = Preprocessing(resize=32, crop=28, channels=3, mean=(0,) * 3, std=(1,) * 3)
ink = Preprocessing(resize=32, crop=28, channels=1, mean=(0,), std=(1,), ink=0.7, native_side=28, mode="squash")
warm = Image.new("RGB", (40, 40), "white")
warm.putpixel((3, 3), 0)
Image.init()
color.prepare(warm), ink.prepare(warm)


def held(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measured(path, how):
    Path("/proc/self/clear_refs").write_text("5")
    before, begun, refused = held("VmRSS"), time.process_time(), None
    try:
        if how == "opened":
            with Image.open(path) as image:
                color.prepare(image)
        else:
            (ink if how == "ink" else color).prepare(path)
    except ImageError as error:
        refused = error.reason
    return {"bytes": held("VmHWM") - before, "seconds": time.process_time() - begun, "refused": refused}


for line in sys.stdin:
    how, path = line.rstrip().split(" ", 1)
    # A process of its own has nothing that others left.
    if (child := os.fork()) == 0:
        print(json.dumps(measured(path, how)), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


class Hostile(NamedTuple):
    content: bytes
    pixels: int
    """That it declares."""
    most: int = BYTES
    """Bytes of a pixel at most: more where a decoder holds more, as `images.cost` says."""
    refused: str | None = None
    """A part of why, if it must be."""
    is_slow: bool = False


# Pixels


def flat(mode: str, side: int) -> Image.Image:
    """Almost nothing in a file, but two rows of ink."""
    kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    if mode in kinds:
        pixels = np.full((side, side), 200, kinds[mode])
        pixels[side // 3 : side // 3 + 2] = 3
        return Image.fromarray(pixels)
    image = Image.new("L", (side, side), 200)
    image.paste(3, (0, side // 3, side, side // 3 + 2))
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(180)
        return image
    return image.convert("RGB").convert(mode) if mode in ("LAB", "HSV", "YCbCr", "CMYK") else image.convert(mode)


def saved(mode: str, format: str, *, most: int = BYTES, share: int = 1, **how: Any) -> Callable[[int], Hostile]:
    def build(side: int) -> Hostile:
        side //= share
        file = io.BytesIO()
        flat(mode, side).save(file, format, **how)
        return Hostile(file.getvalue(), side**2, most)

    return build


def animated(format: str, *, most: int = BYTES, **how: Any) -> Callable[[int], Hostile]:
    def build(side: int) -> Hostile:
        side //= 2
        file, first = io.BytesIO(), flat("RGB", side)
        frames = [first.rotate(90 * (i % 4)) for i in range(1, 6)]
        first.save(file, format, save_all=True, append_images=frames, **how)
        return Hostile(file.getvalue(), side**2, most)

    return build


EXIF = Image.Exif()
EXIF[0x112] = 7


def portable(kind: bytes, most: int, head: bytes, pixel: bytes) -> Callable[[int], Hostile]:
    """A PNM of a sixteenth of the pixels."""

    def build(side: int) -> Hostile:
        side //= 4
        return Hostile(b"%b %d %d %b" % (kind, side, side, head) + pixel * side**2, side**2, most, is_slow=True)

    return build


def bitmap(width: int, height: int, codes: bytes) -> bytes:
    """A BMP with RLE."""
    head = struct.pack("<IHHI", 0, 0, 0, 54 + 1024)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(codes), 0, 0, 256, 0)
    return b"BM" + head + info + bytes(1024) + codes


def rle(side: int) -> Hostile:
    side //= 4
    rows = (b"\xff\x07" * (side // 255) + bytes([side % 255, 7]) + b"\0\0") * side
    return Hostile(bitmap(side, side, rows + b"\0\1"), side**2, is_slow=True)


# TIFF, tag by tag


def tiff(tags: dict[int, tuple[int, list[int] | bytes]], body: bytes) -> bytes:
    """A TIFF of one strip or tile; tag 273 or 324, if it is 0, becomes where that lies."""
    where = 8 + 2 + 12 * len(tags) + 4
    head, values = b"II*\0" + struct.pack("<IH", 8, len(tags)), b""
    extra = sum(len(packed) for kind, numbers in tags.values() if len(packed := _packed(kind, numbers)) > 4)
    for tag, (kind, numbers) in sorted(tags.items()):
        if tag in (273, 324) and numbers == [0]:
            numbers = [where + extra]
        packed = _packed(kind, numbers)
        count = len(numbers)
        if len(packed) > 4:
            head += struct.pack("<HHII", tag, kind, count, where + len(values))
            values += packed
        else:
            head += struct.pack("<HHI", tag, kind, count) + packed.ljust(4, b"\0")
    return head + bytes(4) + values + body


def _packed(kind: int, numbers: list[int] | bytes) -> bytes:
    return (
        numbers if isinstance(numbers, bytes) else struct.pack(f"<{len(numbers)}{ {3: 'H', 4: 'I'}[kind] }", *numbers)
    )


def tags(
    side: int, samples: int = 1, bits: int = 8, compression: int = 8, photometric: int = 1
) -> dict[int, tuple[int, list[int] | bytes]]:
    return {
        256: (4, [side]), 257: (4, [side]), 258: (3, [bits] * samples), 259: (3, [compression]),
        262: (3, [photometric]), 277: (3, [samples]),
    }  # fmt: skip


def deflated(num_bytes: int) -> bytes:
    packer = zlib.compressobj(1)
    block = bytes(2**20)
    parts = [packer.compress(block) for _ in range(num_bytes // len(block))]
    return b"".join([*parts, packer.compress(bytes(num_bytes % len(block))), packer.flush()])


def deep_strip(samples: int, bits: int, photometric: int, most: int, planes: bool = False) -> Callable[[int], Hostile]:
    """All rows in one strip, which libtiff inflates as a whole."""

    def build(side: int) -> Hostile:
        body = deflated(side**2 * (1 if planes else samples) * bits // 8)
        num = samples if planes else 1
        found = tags(side, samples, bits, photometric=photometric) | {278: (4, [side]), 284: (3, [1 + planes])}
        if samples == 4 and photometric == 2:
            found[338] = (3, [2])
        if not planes:
            return Hostile(tiff(found | {273: (4, [0]), 279: (4, [len(body)])}, body), side**2, most)
        place = len(tiff(found | {273: (4, [8] * num), 279: (4, [8] * num)}, b""))
        return Hostile(tiff(found | {273: (4, [place] * num), 279: (4, [len(body)] * num)}, body), side**2, most)

    return build


def huge_tile(side: int) -> Hostile:
    """One pixel in a tile of a billion."""
    body = deflated(4 * side**2)
    found = tags(1) | {322: (4, [32768]), 323: (4, [32768]), 324: (4, [0]), 325: (4, [len(body)])}
    return Hostile(tiff(found, body), 1, refused="of 1 pixel, but takes 1.0 GiB to be decoded; save it as PNG")


def tiny_tiles(side: int) -> Hostile:
    side //= 4 * 16
    num, side = side**2, 16 * side
    found = tags(side, compression=8) | {322: (4, [16]), 323: (4, [16])}
    body = deflated(256)
    place = len(tiff(found | {324: (4, [8] * num), 325: (4, [8] * num)}, b""))
    return Hostile(tiff(found | {324: (4, [place] * num), 325: (4, [len(body)] * num)}, body), side**2)


def many_strips(side: int) -> Hostile:
    found = tags(1, compression=1) | {273: (4, [8] * side * 1000), 279: (4, [1] * side * 1000)}
    return Hostile(tiff(found, b""), 1, refused="beside its pixels; save it anew")


def huge_profile(side: int) -> Hostile:
    found = tags(1, compression=1) | {273: (4, [8]), 279: (4, [1]), 34675: (7, bytes(side * 10_000))}
    return Hostile(tiff(found, b""), 1, refused="beside its pixels; save it anew")


def many_pages(side: int) -> Hostile:
    file, page = io.BytesIO(), Image.new("L", (64, 64), 9)
    page.save(file, "TIFF", save_all=True, append_images=[page] * (side // 10))
    return Hostile(file.getvalue(), 64 * 64)


# JPEG 2000


def jpeg2000(side: int, place: int, *numbers: int, **how: Any) -> bytes:
    """With other numbers from that place in the header on."""
    file = io.BytesIO()
    flat("RGB", side).save(file, "JPEG2000", **how)
    content = bytearray(file.getvalue())
    struct.pack_into(f">{len(numbers)}I", content, content.index(b"\xff\x4f\xff\x51") + 4 + place, *numbers)
    return bytes(content)


def wide_tiles(side: int) -> Hostile:
    """Tiles of one pixel."""
    return Hostile(jpeg2000(240, 20, 1, 1), 240**2, refused="of 57,600 pixels, but takes 659.4 MiB to be decoded")


def small_blocks(side: int) -> Hostile:
    side //= 3
    content = jpeg2000(side, 20, side, side, codeblock_size=(4, 4))
    return Hostile(content, side**2, MOST_BYTES, refused="to be decoded; save it as PNG")


# What lies beside pixels


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiny(format: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    flat(mode, 8).save(file, format)
    return file.getvalue()


def png_with(*chunks: bytes) -> Hostile:
    content = tiny("PNG")
    return Hostile(b"".join([content[:33], *chunks, content[33:]]), 64)


def jpeg_with(*segments: bytes) -> Hostile:
    content = tiny("JPEG")
    return Hostile(b"".join([content[:2], *segments, content[2:]]), 64)


def gif_with(*blocks: bytes) -> Hostile:
    content = tiny("GIF", "L")
    place = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    return Hostile(b"".join([content[:place], *blocks, content[place:]]), 64)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 255, marker, len(content) + 2) + content


def tall_png(height: int, refused: str | None = None) -> Hostile:
    content = tiny("PNG")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\1\2\3" * height, 1))
    return Hostile(content[:8] + header + pixels + chunk(b"IEND", b""), height, refused=refused)


def declared(width: int, height: int, refused: str) -> Hostile:
    """A PNG with another size in its header."""
    content = tiny("PNG")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return Hostile(content[:8] + header + content[33:], 64, refused=refused)


def cut(build: Callable[[int], Hostile]) -> Callable[[int], Hostile]:
    """Without its last third."""

    def built(side: int) -> Hostile:
        whole = build(side)
        return whole._replace(content=whole.content[: len(whole.content) * 2 // 3], refused="damaged or cut short")

    return built


SQUARES: dict[str, Callable[[int], Hostile]] = {
    **{f"{mode}.png": saved(mode, "PNG", compress_level=1) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "transparent-p.png": saved("P", "PNG", compress_level=1, transparency=bytes([0, 99] * 128)),
    "transparent-l.png": saved("L", "PNG", compress_level=1, transparency=200),
    "transparent-rgb.png": saved("RGB", "PNG", compress_level=1, transparency=(200, 200, 200)),
    "transparent-i16.png": saved("I;16", "PNG", compress_level=1, transparency=200),
    "turned-rgba.png": saved("RGBA", "PNG", compress_level=1, exif=EXIF),
    "animated.png": animated("PNG", compress_level=1),
    **{f"{mode}.jpg": saved(mode, "JPEG") for mode in ("L", "RGB", "CMYK")},
    "turned.jpg": saved("RGB", "JPEG", exif=EXIF),
    "progressive.jpg": saved("RGB", "JPEG", most=10, progressive=True, subsampling=0),
    "progressive-cmyk.jpg": saved("CMYK", "JPEG", most=12, progressive=True, subsampling=0),
    "p.gif": saved("P", "GIF"),
    "transparent.gif": saved("P", "GIF", transparency=3),
    "animated.gif": animated("GIF"),
    "lossy.webp": saved("RGB", "WEBP", most=12, method=0),
    "lossless-rgba.webp": saved("RGBA", "WEBP", most=12, method=0, lossless=True),
    "animated.webp": animated("WEBP", most=12, method=0, lossless=True),
    "rgb.avif": saved("RGB", "AVIF", most=12, share=2, speed=10, subsampling="4:4:4"),
    "rgba.avif": saved("RGBA", "AVIF", most=16, share=2, speed=10),
    "l.jp2": saved("L", "JPEG2000", share=2),
    "rgb.jp2": saved("RGB", "JPEG2000", most=20, share=2),
    "rgba.jp2": saved("RGBA", "JPEG2000", most=25, share=2),
    "i16.jp2": saved("I;16", "JPEG2000", most=9, share=2),
    "tiled.jp2": saved("RGB", "JPEG2000", share=2, tile_size=(512, 512)),
    "rgb.bmp": saved("RGB", "BMP"),
    "rle.bmp": rle,
    "rgb.ppm": saved("RGB", "PPM"),
    "i.pgm": saved("I", "PPM"),
    "plain.ppm": portable(b"P3", 11, b"255\n", b"7 8 9 "),
    "plain.pbm": portable(b"P1", 9, b"\n", b"1 "),
    "odd.pgm": portable(b"P5", 14, b"1000\n", b"\1\2"),
    **{f"{mode}.tif": saved(mode, "TIFF", compression="tiff_adobe_deflate")
       for mode in ("LA", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16")},
    "raw-f.tif": saved("F", "TIFF"),
    "jpeg.tif": saved("RGB", "TIFF", compression="jpeg"),
    "zstd.tif": saved("RGB", "TIFF", compression="zstd"),
    "lzma.tif": saved("RGB", "TIFF", compression="lzma"),
    "deep-strip.tif": deep_strip(3, 8, 2, BYTES),
    "deep-strip-rgb16.tif": deep_strip(3, 16, 2, 10),
    "deep-strip-cmyk16.tif": deep_strip(4, 16, 5, 12),
    "planes.tif": deep_strip(3, 8, 2, BYTES, planes=True),
    "tiny-tiles.tif": tiny_tiles,
    "cut.png": cut(saved("RGBA", "PNG", compress_level=1)),
    "cut.tif": cut(deep_strip(3, 8, 2, BYTES)),
    "cut.jp2": cut(saved("RGB", "JPEG2000", most=20, share=2)),
    "rgb.heic": saved("RGB", "HEIF", share=4, quality=30),
}  # fmt: skip
"""Of a side of so many pixels, or near it."""
OTHERS: dict[str, Callable[[int], Hostile]] = {
    "bomb.png": lambda side: declared(100_000, 100_000, "larger than the limit"),
    "wrong-size.png": lambda side: declared(9_000, 9_000, "damaged or cut short"),
    "slip.png": lambda side: tall_png(150 * side),
    "long.png": lambda side: tall_png(2**20 + 1, "longer than 1,048,576 pixels; cut it into parts"),
    "tile.tif": huge_tile,
    "strips.tif": many_strips,
    "profile.tif": huge_profile,
    "pages.tif": many_pages,
    "tiles.jp2": wide_tiles,
    "blocks.jp2": small_blocks,
    "skip.bmp": lambda side: Hostile(bitmap(2**20, 1, b"\0\2\0\xff\0\1"), 2**20, refused="to be decoded"),
    "texts.png": lambda side: png_with(*(chunk(b"tEXt", b"k%d\0b" % i) for i in range(40 * side))),
    "deflated-texts.png": lambda side: png_with(
        *(chunk(b"zTXt", b"k%d\0\0" % i + zlib.compress(bytes(10**6))) for i in range(side // 100))
    ),
    "long-text.png": lambda side: png_with(chunk(b"tEXt", b"k\0" + b"x" * (10_000 * side))),
    "private.png": lambda side: png_with(chunk(b"prVt", bytes(60)) * (50 * side)),
    "segments.jpg": lambda side: jpeg_with(segment(0xE5, b"") * (150 * side)),
    "exif.jpg": lambda side: jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(60_000)) * (side // 5)),
    "junk.jpg": lambda side: jpeg_with(b"\xff" * (3000 * side)),
    "comment.gif": lambda side: gif_with(b"!\xfe" + b"\1x" * (200 * side) + b"\0"),
    "comments.gif": lambda side: gif_with(b"!\xfe\1x\0" * (50 * side)),
}
"""Of few pixels."""


def check(names: Iterable[str], side: int, folder: Path, ways: tuple[str, ...] = ("path",)) -> None:
    heif.register()
    builds = SQUARES | OTHERS
    wrong = []
    with subprocess.Popen(
        [sys.executable, "-c", MEASURE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        for name in names:
            file = builds[name](side)
            path = folder / name
            path.write_bytes(file.content)
            for way in ways:
                child.stdin.write(f"{way} {path}\n")
                child.stdin.flush()
                found = json.loads(child.stdout.readline())
                if way == "ink" and (found["refused"] or "").startswith("blank:"):
                    # Some have nothing drawn on them, which is told of an image that was read to its end.
                    found["refused"] = None
                print(f"{name} {way} {file.pixels} {len(file.content)}", found)
                wrong += [f"{name} {way}: {fault}" for fault in faults(file, found)]
            path.unlink()
        _, printed = child.communicate()
    assert wrong == []
    assert printed == ""


def faults(file: Hostile, found: dict[str, Any]) -> list[str]:
    pace = SLOW_SECONDS_A_PIXEL if file.is_slow else SECONDS_A_PIXEL
    most_seconds = SECONDS + pace * file.pixels + SECONDS_A_BYTE * len(file.content)
    wrong = []
    if found["bytes"] > file.most * file.pixels + SPARE:
        wrong.append(f"{found['bytes'] / 2**20:.0f} MiB, {found['bytes'] / file.pixels:.1f} bytes a pixel")
    if found["seconds"] > most_seconds:
        wrong.append(f"{found['seconds']:.1f} s of {most_seconds:.1f}")
    if (found["refused"] is None) != (file.refused is None) or (file.refused or "") not in (found["refused"] or ""):
        wrong.append(f"refused as {found['refused']!r}")
    if "\n" in (found["refused"] or ""):
        wrong.append("more than one line")
    return wrong


SAMPLE = (
    "RGBA.png", "lossy.webp", "cut.tif", "bomb.png", "tiles.jp2", "deflated-texts.png", "segments.jpg",
)  # fmt: skip


def test_some_hostile_images_take_bounded_memory_and_time(tmp_path: Path) -> None:
    check(SAMPLE, SAMPLE_SIDE, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("files", [SQUARES, OTHERS], ids=["pixels", "beside pixels"])
def test_hostile_images_take_bounded_memory_and_time(
    files: dict[str, Callable[[int], Hostile]], tmp_path: Path
) -> None:
    assert len(SQUARES) + len(OTHERS) >= 60
    check(files, SIDE, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ink", "opened"])
def test_hostile_images_take_no_more_where_ink_is_read_or_they_are_open(way: str, tmp_path: Path) -> None:
    # What an opened WebP or AVIF holds is its owner's.
    check([name for name in SQUARES if not name.endswith(("webp", "avif", "heic"))], SIDE // 2, tmp_path, (way,))
