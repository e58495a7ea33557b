"""Reading and writing the parts of a compressed file: bytes, integers, and the choice between forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

MAX_COUNT_BYTES = 9
"""Of an integer: 63 bits."""


class DamagedFileError(Exception):
    """The bytes are not what the format allows; the message says what is wrong."""


class Reader:
    """Reads bytes in order, and never beyond their end."""

    def __init__(self, content: bytes) -> None:
        self.forms: list[int] = []
        """Those read so far: the choices that the file was written with, see `Choices`."""
        self._content = memoryview(content)
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are not read yet."""
        return len(self._content) - self._at

    def take(self, num: int) -> bytes:
        """The next `num` bytes.

        Raises:
            DamagedFileError: there are fewer.
        """
        if num > self.left:
            raise DamagedFileError(f"{num} bytes should follow where {self.left} are left")
        self._at += num
        return bytes(self._content[self._at - num : self._at])

    def byte(self) -> int:
        return self.take(1)[0]

    def form(self) -> int:
        """The byte that says which form follows."""
        self.forms.append(self.byte())
        return self.forms[-1]

    def count(self) -> int:
        """An integer from 0, as `count` writes it.

        Raises:
            DamagedFileError: it has more than 63 bits.
        """
        value = 0
        for index in range(MAX_COUNT_BYTES):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value
        raise DamagedFileError("a count has more than 63 bits")

    def finish(self) -> None:
        """
        Raises:
            DamagedFileError: there are more bytes.
        """
        if self.left:
            raise DamagedFileError(f"{self.left} bytes follow the end")


def count(value: int) -> bytes:
    """An integer from 0 in LEB128: 7 bits a byte, the lowest first; all bytes but the last have their top bit set."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


Writer = Callable[["Choices"], "bytes | None"]
"""Writes something in one form, with further choices inside it; None if that form cannot hold it."""


class Choices:
    """Which form each part of a file is written in: the shortest, or the one that was chosen before.

    The contents and the choices decide every byte. So a file can be written again byte for byte, even if this version
    of the package would choose other forms than the one that wrote it.
    """

    def __init__(self, again: Iterable[int] | None = None, *, ranges: bool = True) -> None:
        """
        Args:
            again: the choices made before, in order; None: the shortest forms.
            ranges: whether the range coder may be chosen.
        """
        self.made: list[int] = []
        self.ranges = ranges
        self.again = again is not None
        self._made_before: Iterator[int] = iter(again or ())

    def pick(self, forms: Mapping[int, Writer]) -> bytes:
        """A byte that says which form follows, and what its writer gives.

        Raises:
            DamagedFileError: the form that was chosen before cannot hold it.
        """
        if self.again:
            form = next(self._made_before, -1)
            written = forms[form](self) if form in forms else None
            if written is None:
                raise DamagedFileError(f"form {form} cannot hold what follows")
            return bytes([form]) + written
        shortest: tuple[int, bytes, list[int]] | None = None
        for form, write in forms.items():
            inner = Choices(ranges=self.ranges)
            written = write(inner)
            if written is not None and (shortest is None or len(written) < len(shortest[1])):
                shortest = form, written, inner.made
        if shortest is None:
            raise ValueError("no form holds it")
        form, written, made = shortest
        self.made += [form, *made]
        return bytes([form]) + written
