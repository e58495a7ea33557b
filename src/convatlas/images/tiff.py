"""What Pillow makes other pixels of than a TIFF says; found by comparing it with the library tifffile."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from convatlas.images.reasons import UnsupportedImageError

BITS, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 258, 262, 284, 339
SUBFILE_TYPE, SUB_IMAGES, DNG_VERSION = 254, 330, 50706
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
