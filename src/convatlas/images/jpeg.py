"""The segments of a JPEG up to its first pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

SCAN = 0xDA
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
FRAMES = PROGRESSIVE | {0xC0, 0xC1, 0xC3, 0xC5, 0xC7, 0xC9, 0xCB, 0xCD, 0xCF}
"""Markers of headers with the size of the image."""
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without content."""


class Segment(NamedTuple):
    marker: int
    begin: int
    """Of its marker, in the file."""
    end: int

    def content(self, file: BinaryIO) -> bytes:
        """What follows the marker and its length."""
        file.seek(self.begin + 4)
        return file.read(max(self.end - self.begin - 4, 0))


def segments(file: BinaryIO) -> Iterator[Segment]:
    """From the file's begin to the first scan's header, that included; whoever takes one finds the file anywhere."""
    place = 0
    while True:
        file.seek(place)
        # What lies between segments is skipped, as decoders do.
        junk = file.read(2)
        while len(junk) == 2 and (junk[0] != 0xFF or junk[1] in (0, 0xFF)):
            place += 1
            junk = junk[1:] + file.read(1)
        if len(junk) < 2:
            return
        marker = junk[1]
        end = place + 2 + (0 if marker in _ALONE else int.from_bytes(file.read(2)))
        yield Segment(marker, place, end)
        if marker == SCAN:
            return
        place = end
