"""What all parts of a compressed file are read from and written with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

LONGEST_COUNT = 9
"""Bytes of a count: 63 bits."""


class Damaged(Exception):  # noqa: N818  # a finding: whoever knows the file turns it into a UserError
    """The bytes are not what the format allows; the message says what is wrong."""


class Reader:
    """Reads a file from its beginning, never beyond its end."""

    def __init__(self, content: bytes) -> None:
        self.kinds: list[int] = []
        """Those read so far: the choices that the file was written with, see `Choices`."""
        self._content = memoryview(content)
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._content) - self._at

    def take(self, num: int) -> bytes:
        """The next `num` bytes.

        Raises:
            Damaged: there are fewer.
        """
        if num > self.left:
            raise Damaged(f"{num} bytes should follow where {self.left} are left")
        self._at += num
        return bytes(self._content[self._at - num : self._at])

    def byte(self) -> int:
        return self.take(1)[0]

    def kind(self) -> int:
        """The byte that says which form follows."""
        self.kinds.append(self.byte())
        return self.kinds[-1]

    def count(self) -> int:
        """A whole number from 0, see `count`.

        Raises:
            Damaged: it is longer than any count.
        """
        value = 0
        for place in range(LONGEST_COUNT):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
        raise Damaged("a count has more than 63 bits")

    def finish(self) -> None:
        """
        Raises:
            Damaged: something follows.
        """
        if self.left:
            raise Damaged(f"{self.left} bytes follow the end")


def count(value: int) -> bytes:
    """A whole number from 0 as bytes of 7 bits, the lowest first; all but the last have their top bit set (LEB128)."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


Form = Callable[["Choices"], "bytes | None"]
"""Writes something in one of its forms, with further choices inside; None where that form cannot hold it."""


class Choices:
    """Which of its forms each part of a file takes: the shortest, or the one that was chosen before.

    What is written is a function of the contents and of the choices. So a file can be written again byte for byte from
    both, also where another version of this package would choose otherwise.
    """

    def __init__(self, again: Iterable[int] | None = None, *, ranges: bool = True) -> None:
        """
        Args:
            again: choices that were made before; without them, the shortest forms.
            ranges: whether the range coder may be chosen.
        """
        self.made: list[int] = []
        self.ranges = ranges
        self.again = again is not None
        self._made_before: Iterator[int] = iter(again or ())

    def pick(self, forms: Mapping[int, Form]) -> bytes:
        """A byte that says which form, and the form.

        Raises:
            Damaged: what was chosen before does not fit.
        """
        if self.again:
            kind = next(self._made_before, -1)
            written = forms[kind](self) if kind in forms else None
            if written is None:
                raise Damaged(f"form {kind} cannot hold what follows")
            return bytes([kind]) + written
        shortest: tuple[int, bytes, list[int]] | None = None
        for kind, form in forms.items():
            inner = Choices(ranges=self.ranges)
            written = form(inner)
            if written is not None and (shortest is None or len(written) < len(shortest[1])):
                shortest = kind, written, inner.made
        if shortest is None:
            raise ValueError("no form holds it")
        kind, written, made = shortest
        self.made += [kind, *made]
        return bytes([kind]) + written
