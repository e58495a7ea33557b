"""What a file is, from its first bytes: its suffix may say anything, or be none."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import features

from convatlas.images import heif
from convatlas.images.files import opened, read_error

READ = {
    "JPEG": "jpg", "PNG": "zlib", "BMP": None, "GIF": None, "TIFF": "zlib", "WEBP": "webp", "PPM": None, "AVIF": "avif",
    "JPEG2000": "jpg_2000",
}  # fmt: skip
"""The formats that Pillow decodes for us, by its names, with the part of Pillow that each needs."""
HEAD = 4096
"""The first bytes that say what a file is."""

_SIGNATURES = {
    "JPEG-LS": rb"\xff\xd8\xff\xf7",
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF....WEBP",
    # A header of 12 to 124 bytes, little-endian, follows the file's: text may begin with BM too.
    "BMP": rb"BM.{12}[\x0c-\x7c]\0\0\0",
    "PPM": rb"P(?:[1-6y]|0CMYK|0P|0PLP|[Ff])\s",
    "JPEG2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
    # Before TIFF, whose header they have.
    "camera raw": rb"II\*\0....CR|IIR[OS]|IIU\0|FUJIFILMCCD-RAW|FOVb|....ftypcrx |\0MRM",
    "TIFF": rb"II\*\0|MM\0\*|II\+\0|MM\0\+|MM\*\0|II\0\*",
    "SVG": rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml|<!--|<!DOCTYPE svg|<svg)(?:(?!<html).)*?(?<=<svg)[\s>]",
    "PSD": rb"8BPS",
    "PDF": rb"%PDF-",
    "EPS": rb"%!PS|\xc5\xd0\xd3\xc6",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG XR": rb"II\xbc",
    "XCF": rb"gimp xcf",
    "DICOM": rb".{128}DICM",
    "FITS": rb"SIMPLE  =",
    "OpenEXR": rb"v/1\x01",
    "Radiance HDR": rb"#\?(?:RADIANCE|RGBE)",
    "ICO": rb"\0\0[\x01\x02]\0[^\0]\0",
    "ICNS": rb"icns",
    "DDS": rb"DDS ",
    "QOI": rb"qoif",
    "PCX": rb"\n[\0-\x05]\x01[\x01\x02\x04\x08]",
    "SGI": rb"\x01\xda[\0\x01][\x01\x02]",
    "DjVu": rb"AT&TFORM",
    "WMF": rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF",
    "XPM": rb"/\* XPM \*/",
}
"""What each format's files begin with."""
_FORMATS = {name: re.compile(pattern, re.DOTALL) for name, pattern in _SIGNATURES.items()}
# Of ISO base media files; `mif1` and `msf1` are of both, and the brands behind say of which.
_BRANDS = {
    "AVIF": {b"avif", b"avis"},
    heif.HEIF: {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"},
}
_WITHOUT_SIGNATURE = {".tga": "TGA"}


def identify(path: Path) -> str | None:
    """The name of a file's image format, from its first bytes; None if it is no image.

    Raises:
        ReadError: the file cannot be read.
    """
    with opened(path) as file:
        try:
            head = file.read(HEAD)
        except OSError as error:
            raise read_error(path, error) from error
    return format_of(head) or _WITHOUT_SIGNATURE.get(path.suffix.lower())


def format_of(head: bytes) -> str | None:
    """`identify` from the first `HEAD` bytes of a file."""
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4]), len(head))
        brands = {head[place : place + 4] for place in (8, *range(16, end, 4))}
        for name, own in _BRANDS.items():
            if brands & own:
                return name
    return next((name for name, pattern in _FORMATS.items() if pattern.match(head)), None)


def why_not(name: str) -> str | None:
    """Why files of a format are not read, to follow the file's name; None if they are read.

    Args:
        name: of the format, as `identify` gives it.
    """
    if name == heif.HEIF:
        return None if heif.version() else "a HEIF image (HEIC); pip install 'convatlas[heic]' to read it"
    if name not in READ:
        return f"in the format {name}, which is not read; save it as PNG or JPEG"
    part = READ[name]
    if part is None or features.check(part):
        return None
    return f"in the format {name}, which this build of Pillow cannot read"
