"""Protocol buffers: the fields of a message, as https://protobuf.dev/programming-guides/encoding lays them out."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

MAX_VARINT_BYTES = 10
MAX_FIELDS = 300_000
"""That a file may have, runs of numbers aside. ResNet-152 has some 10,000."""


class DamagedMessageError(Exception):
    """The bytes are no message of the kind; the message says why."""


class Wire(enum.IntEnum):
    """How the value of a field is written. Two more, of groups, no file of today has."""

    VARINT = 0
    I64 = 1
    LEN = 2
    I32 = 5


WIDTHS = {Wire.I64: 8, Wire.I32: 4}
FIRST_WINDOW, LAST_WINDOW = 16, 2**20
"""Fields that are looked at together."""


class Field(NamedTuple):
    """A field, or a run of fields of one number and a fixed width, between which lies a byte each."""

    number: int
    wire: Wire
    value: int
    """Of a varint; of a run, how many they are."""
    start: int
    """Where the value lies."""
    end: int


class WireReader:
    """Reads fields, and never beyond the end of their message. It goes no deeper than it is asked to."""

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.num_fields = 0

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message that lies there.

        Raises:
            DamagedMessageError: there is no message, or there are too many fields.
        """
        at = start
        while at < end:
            self.num_fields += 1
            if self.num_fields > MAX_FIELDS:
                raise DamagedMessageError("it has more fields than any network needs")
            tag, at = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            value, begins = 0, at
            if wire == Wire.VARINT:
                value, at = self.varint(at, end)
            elif wire in WIDTHS:
                value = self.run(tag, at, end, WIDTHS[Wire(wire)])
                at += value * (WIDTHS[Wire(wire)] + 1) - 1
            elif wire == Wire.LEN:
                length, begins = self.varint(at, end)
                at = begins + length
            else:
                raise DamagedMessageError(f"byte {begins:,} begins a field of type {wire}, which is none")
            if at > end:
                raise DamagedMessageError(
                    f"field {number} says that it has {at - begins:,} bytes, and {end - begins:,} are left"
                )
            yield Field(number, Wire(wire), value, begins, at)

    def run(self, tag: int, at: int, end: int, width: int) -> int:
        """How many fields with this tag and this many bytes follow each other; the first value lies at `at`."""
        num, window, step = 1, FIRST_WINDOW, width + 1
        # Numbers that are not packed are millions of fields, too many for one after another.
        while tag < 0x80:
            begins = at + num * step - 1
            looked_at = min(window, (end - begins) // step)
            if looked_at < 1:
                break
            others = np.frombuffer(self.content, np.uint8, looked_at * step, begins)[::step] != tag
            same = int(others.argmax()) if others.any() else looked_at
            num += same
            if same < window:
                break
            window = min(4 * window, LAST_WINDOW)
        return num

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """A number of seven bits a byte, the lowest first, and where it ends.

        Raises:
            DamagedMessageError: it has no end, or too many bits.
        """
        value = 0
        for i in range(MAX_VARINT_BYTES):
            if at + i >= end:
                raise DamagedMessageError("it ends in the middle of a number")
            byte = self.content[at + i]
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                if value >= 1 << 64:
                    break
                return value, at + i + 1
        raise DamagedMessageError(f"the number at byte {at:,} has more than 64 bits")

    def text(self, field: Field) -> str:
        """
        Raises:
            DamagedMessageError: it is no text.
        """
        self.expect(field, Wire.LEN)
        try:
            return str(self.content[field.start : field.end], "utf-8")
        except UnicodeDecodeError as error:
            raise DamagedMessageError(f"byte {field.start:,} begins a name that is no text") from error

    def integer(self, field: Field) -> int:
        """A number that may be negative, of 64 bits.

        Raises:
            DamagedMessageError: it is none.
        """
        self.expect(field, Wire.VARINT)
        return field.value - (1 << 64) if field.value >= 1 << 63 else field.value

    def integers(self, field: Field) -> Iterator[int]:
        """One of several numbers, or all of them packed into one field.

        Raises:
            DamagedMessageError: they are none.
        """
        if field.wire != Wire.LEN:
            yield self.integer(field)
            return
        at = field.start
        while at < field.end:
            begins = at
            value, at = self.varint(at, field.end)
            yield self.integer(Field(field.number, Wire.VARINT, value, begins, at))

    def expect(self, field: Field, wire: Wire) -> None:
        """
        Raises:
            DamagedMessageError: the field's value is written otherwise.
        """
        if field.wire != wire:
            raise DamagedMessageError(
                f"field {field.number} at byte {field.start:,} is written as {field.wire.name}, not as {wire.name}"
            )
