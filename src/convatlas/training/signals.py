"""Ctrl-C and SIGTERM ask training to stop after the step at hand, when its state is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Stopped(Exception):  # noqa: N818  # not an error: the person asked for it
    """Work was asked to stop by a signal; what was done is kept."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


class StopRequest:
    """While active, the first signal is noted in `signal`; a second one of the same kind acts as ever."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Only the main thread may set handlers; elsewhere whoever started the thread decides.
        if threading.current_thread() is threading.main_thread():
            # As `nohup` and a shell's background jobs ask for, some may be ignored.
            heeded = [number for number in self.SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, self._before[number])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # After the first signal it was given back, and whoever has it now may have changed it.
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
