"""The segments of a JPEG up to its first pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

SCAN = 0xDA
COMMENT = 0xFE
APPLICATIONS = range(0xE0, 0xF0)
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
FRAMES = PROGRESSIVE | {0xC0, 0xC1, 0xC3, 0xC5, 0xC7, 0xC9, 0xCB, 0xCD, 0xCF}
"""Markers of headers with the size of the image."""
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without content."""
_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
BLOCK = 2**16


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
    """From the file's begin to the first scan's header, that included; whoever takes one may read the file anywhere."""
    place: int | None = 0
    while place is not None:
        file.seek(place)
        head = file.read(4)
        if not _MARKER.match(head):
            place = _next_marker(file, place)
            continue
        end = place + 2 + (0 if head[1] in _ALONE else int.from_bytes(head[2:]))
        yield Segment(head[1], place, end)
        place = None if head[1] == SCAN else end


def _next_marker(file: BinaryIO, place: int) -> int | None:
    """Where the next marker is; what lies between segments is skipped, as decoders do."""
    file.seek(place)
    content = file.read(2)
    while len(content) > 1:
        if found := _MARKER.search(content):
            return place + found.start()
        place += len(content) - 1
        content = content[-1:] + file.read(BLOCK)
    return None
