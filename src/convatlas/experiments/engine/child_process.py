"""A Python process of our own code, which answers calls and ends with the process that started it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, BinaryIO, ParamSpec, TypeVar

from convatlas.errors import UserError
from convatlas.training.signals import Stopped

# Not multiprocessing or concurrent.futures: they start a process by importing the caller's main module, which breaks in
# a script without `if __name__ == "__main__"`; Ctrl-C reaches their processes, too; and those of a process pool outlive
# a parent that is killed.

P = ParamSpec("P")
R = TypeVar("R")


class LostProcessError(UserError):
    """A process was killed, perhaps since memory ran out, or crashed."""


class ChildProcess:
    """A process that calls functions. It reads calls from standard input, which ends when this process does, however
    that may be; then it ends too, whatever it does."""

    def __init__(self, *, num_threads: int) -> None:
        """
        Args:
            num_threads: how many threads torch computes with; it reads that when it is loaded.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {serve.__module__} import {serve.__name__} as main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": str(num_threads)},
            # Ctrl-C reaches the parent alone, which stops the others.
            start_new_session=True,
        )

    def begin(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Callable[[], R]:
        """Have it call `function`, of a module. One call at a time.

        Returns:
            what waits for the result. It raises the function's `UserError`, `OSError` or `MemoryError`;
            `RuntimeError` for any other error of the function, with the traceback as a note; and `LostProcessError` if
            there is no result.
        """
        assert self._process.stdin is not None, "asked for"
        # Whoever does not read it is lost, and its status says why.
        with suppress(BrokenPipeError):
            pickle.dump((function, args, kwargs), self._process.stdin)
            self._process.stdin.flush()
        return self._result

    def _result(self) -> Any:
        assert self._process.stdout is not None, "asked for"
        try:
            # Only a process of our own code writes it.
            result, error = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError) as lost:
            raise LostProcessError(
                f"a process ended with status {self._process.wait()}; what was done is kept, and the same command "
                "continues"
            ) from lost
        if error is not None:
            raise error
        return result

    def terminate(self) -> None:
        """Ask it to stop. Not by SIGINT, which a process without work at hand would answer with a traceback."""
        self._process.terminate()

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # What it did not read is written again when the pipe is closed.
                with suppress(BrokenPipeError):
                    pipe.close()


def serve() -> None:
    """What the process does: call what it is told to, one after the other, and write what each returns or raises."""
    calls: SimpleQueue[Any] = SimpleQueue()
    # What libraries print, and processes that they start, must not come between.
    received, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    threading.Thread(target=receive, args=(received, calls), daemon=True).start()
    while True:
        function, args, kwargs = calls.get()
        answer: tuple[Any, Exception | None]
        try:
            answer = function(*args, **kwargs), None
        except Stopped as stop:
            sys.exit(128 + stop.signal)
        except Exception as error:
            answer = None, told(error)
        pickle.dump(answer, answers)
        answers.flush()


def receive(file: BinaryIO, calls: SimpleQueue[Any]) -> None:
    """Put each call in the queue; where they end, the parent is gone, and so is this process."""
    try:
        while True:
            calls.put(pickle.load(file))
    except (EOFError, pickle.UnpicklingError):
        pass
    except Exception:
        traceback.print_exc()
    os._exit(1)


def told(error: Exception) -> Exception:
    """An error that another process can raise."""
    if isinstance(error, UserError):
        # Some kinds are not made of their message.
        return UserError(str(error))
    if isinstance(error, OSError | MemoryError):
        return error
    other = RuntimeError(str(error))
    other.add_note("".join(traceback.format_exception(error)))
    return other
