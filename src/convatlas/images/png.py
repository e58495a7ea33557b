"""A PNG without its text, which Pillow refuses to read where it is long, and the pixels with it."""

from __future__ import annotations

import io
from typing import BinaryIO

SIGNATURE = 8
_TEXT = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}
# How an image is turned upright, where it is not in a chunk of its own.
_ORIENTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")


def without_text(file: BinaryIO) -> io.BytesIO:
    """The same PNG without its color profile and its text, but for the text that may say how it is turned."""
    file.seek(0)
    content = memoryview(file.read())
    kept = io.BytesIO()
    kept.write(content[:SIGNATURE])
    begin = SIGNATURE
    while begin < len(content):
        # A chunk: the length of its data, its kind, its data, a checksum.
        end = begin + 12 + int.from_bytes(content[begin : begin + 4])
        if content[begin + 4 : begin + 8] not in _TEXT or content[begin + 8 : begin + 40].tobytes().startswith(
            _ORIENTATION
        ):
            kept.write(content[begin:end])
        begin = end
    return kept
