"""The main header of a JPEG 2000 (ISO 15444-1, annex A), which says what decoding it takes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

SIZE, CODING, COMPONENT_CODING = 0x51, 0x52, 0x53
TILE, END = 0x90, 0xD9
LARGEST_BLOCK = 4096


class Header(NamedTuple):
    width: int
    height: int
    tile_width: int
    tile_height: int
    depths: bytes
    """Of each component, less one, in bits."""
    block: int
    """Coefficients of the smallest code block."""

    @classmethod
    def read(cls, file: BinaryIO) -> Header | None:
        """None if it is damaged: then nothing is decoded of it."""
        found, block = None, LARGEST_BLOCK
        for marker, content in _markers(file):
            if marker == SIZE and len(content) >= 36:
                _, right, bottom, left, top, width, height = struct.unpack_from(">H6I", content)
                found = right - left, bottom - top, width, height, content[36::3]
            # Of all components, or of one, whose number takes a byte or two.
            elif marker == CODING and len(content) >= 8:
                block = min(block, 16 << (content[6] & 15) + (content[7] & 15))
            elif marker == COMPONENT_CODING and len(content) >= 6:
                place = 3 if found is None or len(found[4]) < 257 else 4
                block = min(block, 16 << (content[place] & 15) + (content[place + 1] & 15))
        return None if found is None or 0 in found[:4] else cls(*found, block)


def _markers(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Each marker of a codestream's main header with its content."""
    file.seek(0)
    place = 0
    if file.read(2) != b"\xff\x4f":
        # In a file of boxes.
        while True:
            file.seek(place)
            head = file.read(16)
            if len(head) < 8:
                return
            length, kind = struct.unpack_from(">I4s", head)
            header = 8
            if length == 1 and len(head) == 16:
                length, header = int.from_bytes(head[8:]), 16
            if kind == b"jp2c":
                place += header
                break
            if length < header:
                return
            place += length
    place += 2
    while True:
        file.seek(place)
        head = file.read(4)
        # A tile begins.
        if len(head) < 4 or head[0] != 0xFF or head[1] in (TILE, END):
            return
        length = int.from_bytes(head[2:])
        yield head[1], file.read(length - 2 if length > 2 else 0)
        place += 2 + length
