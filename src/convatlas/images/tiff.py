"""What Pillow makes other pixels of than a TIFF says; found by comparing it with the library tifffile."""

from __future__ import annotations

import ctypes
import io
from contextlib import suppress
from functools import cache
from typing import BinaryIO, Literal

from PIL import Image, _imaging
from PIL.TiffImagePlugin import TiffImageFile

from convatlas.formatting import size
from convatlas.images.bounds import BYTES, SPARE
from convatlas.images.reasons import UnsupportedImageError

BITS, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 258, 262, 284, 339
SUBFILE_TYPE, SUB_IMAGES, DNG_VERSION = 254, 330, 50706
_SIDES = {256, 257}
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Of each type of tag."""
COPIES = 4
"""As much as its values of a TIFF Pillow holds of each when it opens it."""
OPTIONAL = {"webp", "zstd", "lzma"}
"""Compressions that Pillow may have been built without."""


def check(image: Image.Image) -> None:
    """
    Raises:
        UnsupportedImageError: it is a TIFF that Pillow decodes wrongly and silently.
    """
    if not isinstance(image, TiffImageFile):
        return
    tags = image.tag_v2
    compression = str(image.info.get("compression"))
    bits, planar = tags.get(BITS, (1,)), tags.get(PLANAR) == 2
    if DNG_VERSION in tags or (SUB_IMAGES in tags and tags.get(SUBFILE_TYPE) == 1):
        raise UnsupportedImageError("a camera raw file, of which a small preview alone could be read; save it as JPEG")
    if compression in OPTIONAL and not _is_built_in(compression):
        raise UnsupportedImageError(f"a TIFF with {compression} compression, which this build of Pillow cannot read")
    if tags.get(SAMPLE_FORMAT, (1,))[0] == 2 and bits[0] <= 8:
        raise UnsupportedImageError("a TIFF of signed 8-bit values, which Pillow reads wrongly; save it as unsigned")
    if planar and (image.mode in ("LA", "La", "PA", "LAB") or (compression == "raw" and max(bits) > 8)):
        raise UnsupportedImageError(
            f"a TIFF of {max(bits)}-bit {image.mode} in separate planes, which Pillow reads wrongly; save it as PNG"
        )
    if tags.prefix == b"MM" and compression != "raw" and image.mode in ("F", "I"):
        raise UnsupportedImageError(
            f"a compressed big-endian TIFF of {bits[0]}-bit values, which Pillow reads wrongly; save it uncompressed"
        )


def check_tags(file: BinaryIO) -> None:
    """
    Raises:
        UnsupportedImageError: a TIFF holds so much beside its pixels that to open it takes more memory than they.
    """
    file.seek(0)
    head = file.read(16)
    order: Literal["little", "big"] = "little" if head[:1] == b"I" else "big"
    # BigTIFF has numbers of 8 bytes where others have 4.
    wide = 8 if 43 in head[2:4] else 4
    file.seek(int.from_bytes(head[8:16] if wide == 8 else head[4:8], order))
    num_entries = int.from_bytes(file.read(8 if wide == 8 else 2), order)
    pixels, num_bytes = 1, 0
    for _ in range(num_entries):
        entry = file.read(4 + 2 * wide)
        if len(entry) < 4 + 2 * wide:
            return
        tag, kind = (int.from_bytes(entry[place : place + 2], order) for place in (0, 2))
        num_values, value = (int.from_bytes(part, order) for part in (entry[4 : 4 + wide], entry[4 + wide :]))
        num_bytes += num_values * _VALUE_BYTES.get(kind, 0)
        if tag in _SIDES:
            pixels *= value >> 16 if order == "big" and kind == 3 else value
    file_bytes = file.seek(0, io.SEEK_END)
    if COPIES * min(num_bytes, file_bytes) > BYTES * pixels + SPARE:
        raise UnsupportedImageError(f"a TIFF with {size(num_bytes)} beside its pixels; save it anew")


def load(image: Image.Image) -> None:
    """Load any image, a TIFF that lies on its side among them: Pillow maps it from its file with height for width."""
    if not isinstance(image, TiffImageFile):
        image.load()
        return
    # Without a name it is read and not mapped.
    path, image.filename = image.filename, ""
    try:
        image.load()
    finally:
        image.filename = path


@cache
def silence() -> None:
    """Keep libtiff from printing what it finds to the standard error, for as long as this process lives.

    What is wrong with a file is raised. Pillow silences libtiff's warnings itself, and for good; to bring its errors
    back after each image would bring them back to other threads in the middle of one. Where Pillow was built so that
    libtiff cannot be reached, it goes on printing.
    """
    with suppress(AttributeError, OSError):
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)


def is_min_white(image: Image.Image) -> bool:
    """Whether it is a TIFF whose smallest value is white, which Pillow heeds up to 8 bits only."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == 0


def is_unsigned(image: Image.Image) -> bool:
    """Whether it is a TIFF of unsigned values: Pillow reads 32 bits as signed ones."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(SAMPLE_FORMAT, (1,))[0] == 1


@cache
def _is_built_in(compression: str) -> bool:
    try:
        Image.new("RGB", (16, 16)).save(io.BytesIO(), "TIFF", compression=compression)
    except OSError:
        return False
    return True
