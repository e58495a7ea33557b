"""Why an image cannot be decoded: damage is one thing, a limit or a feature that Pillow lacks another."""

from __future__ import annotations

import re


class UnsupportedImageError(Exception):
    """A good image that is not read; its text says why, to follow the file's name."""


CLOSED = "it was closed before it was read"
_TOO_LONG = re.compile(r"Decompressed data too large|Too much memory used in text")
_UNSUPPORTED = re.compile(
    r"cannot handle|unsupported|not (?:yet )?supported|not available|not implemented|no codec|"
    r"security limit|codec configuration|bad configuration|unknown (?:pixel|raw) mode|unable to determine J2K",
    re.IGNORECASE,
)
# Numbers of compressions that Pillow does not know have five digits, those of tags three.
_COMPRESSION = re.compile(r"\d{5}")


def is_too_long(error: Exception) -> bool:
    """Whether a PNG's text or color profile is longer than Pillow reads; its pixels may be good."""
    return _TOO_LONG.search(str(error)) is not None


def is_out_of_memory(error: Exception) -> bool:
    """Whether it says nothing of the image, but that this machine has no memory for it now."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def reason_of(error: Exception) -> str:
    """What an error of Pillow's decoders says of the image, in one line, to follow the file's name."""
    message = " ".join(str(error).split())
    if isinstance(error, UnsupportedImageError):
        return message
    if is_too_long(error):
        return "its text or color profile is longer than Pillow reads"
    if "Operation on closed image" in message:
        return CLOSED
    if _COMPRESSION.fullmatch(message):
        return f"a TIFF with compression {message}, which Pillow does not read"
    if _UNSUPPORTED.search(message):
        return f"of a kind that Pillow does not read ({message})"
    return f"damaged or cut short ({message})"
