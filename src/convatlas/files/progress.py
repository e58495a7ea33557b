"""How long work tells whoever watches how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

Unit = Literal["images", "bytes", "files"]


class ProgressCallback(Protocol):
    """Is told of one piece of work after another: `begin`, many times `advance`, and `end`, also after an error."""

    def say(self, line: str) -> None:
        """Something that the user should know before the work begins."""
        ...

    def begin(self, title: str, total: int | None, unit: Unit) -> None:
        """Work starts.

        Args:
            title: what is done, as "decoding photos".
            total: how much there is to do; None if that is not known.
        """
        ...

    def advance(self, num: int) -> None:
        """So much more is done."""
        ...

    def end(self) -> None:
        """The work is over."""
        ...


class SilentProgress:
    """Shows nothing."""

    def say(self, line: str) -> None:
        pass

    def begin(self, title: str, total: int | None, unit: Unit) -> None:
        pass

    def advance(self, num: int) -> None:
        pass

    def end(self) -> None:
        pass


SILENT: ProgressCallback = SilentProgress()


@contextmanager
def reported(progress: ProgressCallback, title: str, total: int | None, unit: Unit) -> Iterator[Callable[[int], None]]:
    """Begin, and end in any case; yields what to call as work advances."""
    progress.begin(title, total, unit)
    try:
        yield progress.advance
    finally:
        progress.end()
