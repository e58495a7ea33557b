"""What decoding an image takes: memory in proportion to its pixels, or it is refused.

`BYTES` a pixel and `SPARE`, whatever the format: four bytes of the image as it is decoded, four of what it becomes.
Some decoders hold more beside these. How much is estimated from the headers, before anything is decoded; such an image
is read if it takes no more than the largest one that may be read takes, and no more than `MOST_BYTES` a pixel.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from convatlas.formatting import plural, size
from convatlas.images import jpeg, jpeg2000
from convatlas.images.bounds import BYTES, LONGEST_SIDE, MAX_PIXELS, MOST_BYTES, SPARE
from convatlas.images.reasons import UnsupportedImageError
from convatlas.images.tiff import BITS, PLANAR

_SAMPLES, _ROWS_PER_STRIP, _TILE_SIDES = 277, 278, (322, 323)
_PLAIN = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes of a pixel in Pillow, where they are not four."""


def check(image: Image.Image, pixels: int) -> int:
    """Bytes that decoding an image takes at most, but for `SPARE`.

    Args:
        image: opened and not loaded yet.
        pixels: that it has, and no more than an image may have; while it is decoded it may be scaled down.

    Raises:
        UnsupportedImageError: decoding it takes too much memory.
    """
    if max(image.size) > LONGEST_SIDE:
        raise UnsupportedImageError(f"longer than {LONGEST_SIDE:,} pixels; cut it into parts")
    cost, limit = _cost(image), Image.MAX_IMAGE_PIXELS
    if cost > MOST_BYTES * pixels + SPARE:
        raise UnsupportedImageError(
            f"of {plural(pixels, 'pixel')}, but takes {size(cost)} to be decoded; save it as PNG"
        )
    if limit is not None and cost > BYTES * limit + SPARE:
        raise UnsupportedImageError(
            f"takes {size(cost)} to be decoded, more than the {size(BYTES * limit + SPARE)} of the largest PNG; "
            f"save it as PNG, or set {MAX_PIXELS} to {-(-(cost - SPARE) // BYTES)} to read it"
        )
    return max(cost, BYTES * image.width * image.height)


def _cost(image: Image.Image) -> int:
    """Bytes that Pillow and the decoder hold at most while it is decoded."""
    pixels = image.width * image.height
    held = _PLAIN.get(image.mode, 4) * pixels
    file: BinaryIO | None = getattr(image, "fp", None)
    tile = next(iter(getattr(image, "tile", ())), (None,))[0]
    match image.format:
        case "JPEG" | "MPO" if file is not None:
            return held + _coefficients(file)
        case "JPEG2000" if file is not None:
            return held + _openjpeg(file)
        case "TIFF" if isinstance(image, TiffImageFile):
            return held + _libtiff(image) + (_num_bytes(file) if image.use_load_libtiff else 0)
        case "WEBP":
            # The canvas, the one before, the copy of it that Pillow decodes, and the image; two copies of the file.
            return 16 * pixels + 2 * _num_bytes(file)
        case "AVIF":
            # Planes of up to 16 bits, and two copies of the pixels.
            channels = len(image.getbands())
            return 4 * channels * pixels + _num_bytes(file)
        case "PPM" if tile in ("ppm", "ppm_plain"):
            # Two copies of the pixels as bytes.
            return held + 2 * pixels * (4 if image.mode == "I" else len(image.getbands()))
        case "BMP" if tile == "bmp_rle":
            # As before; and one code may skip 255 rows that are not there.
            return held + 2 * (pixels + 255 * image.width)
    return held


def _num_bytes(file: BinaryIO | None) -> int:
    if file is None:
        return 0
    place = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(place)
    return end


def _coefficients(file: BinaryIO) -> int:
    """What libjpeg holds of a JPEG of several scans, as progressive ones: 16 bits of every coefficient."""
    coefficients = num_components = 0
    for segment in jpeg.segments(file):
        if segment.marker in jpeg.FRAMES:
            content = segment.content(file)
            height, width, num_components = struct.unpack_from(">HHB", content, 1)
            factors = [(part >> 4, part & 15) for part in content[7 : 6 + 3 * num_components : 3]]
            largest = max((h for h, _ in factors), default=1) * max((v for _, v in factors), default=1)
            coefficients = width * height * sum(h * v for h, v in factors) // max(largest, 1)
            if segment.marker in jpeg.PROGRESSIVE:
                break
        elif segment.marker == jpeg.SCAN:
            # The first scan of all components is the only one.
            coefficients = coefficients if segment.content(file)[0] < num_components else 0
    return 2 * coefficients


def _libtiff(image: TiffImageFile) -> int:
    """What libtiff and Pillow hold of a TIFF: a strip or a tile."""
    tags = image.tag_v2
    bits, samples = max(tags.get(BITS, (1,))), int(tags.get(_SAMPLES, 1))
    width, length = (tags.get(tag) for tag in _TILE_SIDES)
    if width is None or length is None:
        if not image.use_load_libtiff:
            return 0
        width, length = image.width, min(tags.get(_ROWS_PER_STRIP, image.height), image.height)
    per_pixel = bits * (1 if tags.get(PLANAR) == 2 else samples) / 8
    if image.info.get("compression") in ("jpeg", "tiff_jpeg"):
        # The coefficients, should it be progressive, and four bytes of color.
        per_pixel += 2 * samples + 4
    return int(width * length * per_pixel)


def _openjpeg(file: BinaryIO) -> int:
    """What OpenJPEG and Pillow hold: each coefficient of a tile in 32 bits, its pixels, code blocks, and all tiles."""
    found = jpeg2000.Header.read(file)
    if found is None:
        return 0
    tiles = -(-found.width // found.tile_width) * -(-found.height // found.tile_height)
    pixels = min(found.width, found.tile_width) * min(found.height, found.tile_height)
    per_pixel = sum(4 + (1 if depth & 127 < 8 else 2) + 500 / found.block for depth in found.depths)
    return int(pixels * per_pixel) + 12_000 * tiles
