"""Ctrl-C and SIGTERM end a command with one line and status 128 + the signal's number, whenever they come.

Training and what is built on it note a signal, save their state and say how to continue (`training.signals`). Here is
what happens before, between and after. Loaded before all else, so that little is loaded here.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

TORCHRUN = "TORCHELASTIC_RUN_ID"
"""A variable that torchrun sets for the processes that it starts."""
SHOW_CURSOR = "\x1b[?25h"
"""A progress bar hides it."""


class Signaled(BaseException):
    """A signal asked the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def stopped_by(number: int) -> str:
    return f"stopped by {'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}"


def raise_on_signal(*, silently: bool) -> None:
    """From now on the first signal raises `Signaled`, and the next one ends the process at once.

    Args:
        silently: see `end_on_signal`.
    """
    _answer(partial(_raise, silently=silently))


def end_on_signal(*, silently: bool) -> None:
    """From now on a signal ends the process at once.

    Args:
        silently: without a line, since there was one, or another process says it.
    """
    _answer(_leave if silently else _end)


@contextmanager
def last_words() -> Iterator[None]:
    """While active, the command says what signal stopped it, and others must not interrupt or repeat that. They end it
    at once afterwards."""
    _answer(_ignore)
    yield
    _answer(_leave)


def _answer(handler: Callable[[int, FrameType | None], None]) -> None:
    # Only the main thread may; elsewhere whoever started the thread decides.
    if threading.current_thread() is threading.main_thread():
        # While processes of torchrun wait for one another, they come to no handler of Python's, and torchrun ends
        # them by SIGTERM.
        for number in (signal.SIGINT,) if TORCHRUN in os.environ else (signal.SIGINT, signal.SIGTERM):
            # Ignored, as `nohup` and a shell's background jobs ask for; or all has been said.
            if signal.getsignal(number) not in (signal.SIG_IGN, _leave):
                signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None, *, silently: bool) -> None:
    end_on_signal(silently=silently)
    if _is_importing(frame):
        # Modules written in C make an ImportError of any exception, or lose it. There is nothing to clean up yet.
        (_leave if silently else _end)(number, frame)
    raise Signaled(number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end(number: int, frame: FrameType | None) -> None:
    _answer(_ignore)
    shown = SHOW_CURSOR if os.isatty(2) else ""
    # Not through `sys.stderr`, in which this may have interrupted another line.
    os.write(2, f"{shown}convatlas: {stopped_by(number)}\n".encode())
    _leave(number, frame)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass
