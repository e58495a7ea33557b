"""Trainings side by side: small networks gain nothing from a second thread, and twice as much from a second process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Self

import torch

from convatlas.training import Progress, Request, Stopped, finish
from convatlas.training.signals import StopRequest

PAUSE = 0.2
"""Seconds after which it is looked whether somebody wants to stop."""
WORKER = "from convatlas.experiments.engine.worker_pool import work; work()"

Wanted = tuple[Request, Path]
"""What is trained, and its folder."""


class WorkerPool:
    """Processes that train side by side, as many as there are cores, each with one thread.

    They begin with the first training and stay for the next: starting one takes as long as a small training.
    """

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        # Also where nobody closes it.
        weakref.finalize(self, dismiss, self._processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        dismiss(self._processes)

    def train(self, wanted: Sequence[Wanted], trained: Callable[[], None] = lambda: None) -> None:
        """Train each request into its folder. With a GPU, one after the other: one training fills it.

        Args:
            trained: called when one of them is done, in whatever thread.

        Raises:
            Stopped: Ctrl-C or SIGTERM came; every training was told and has saved its state.
            RuntimeError: one of them ended otherwise than by its end; its own words are on standard error.
        """
        at_once = min(1 if torch.cuda.is_available() else torch.get_num_threads(), len(wanted))
        if not at_once:
            return
        while len(self._processes) < at_once:
            self._processes.append(worker())
        waiting = list(reversed(wanted))
        done = told = False
        with StopRequest() as stop, ThreadPoolExecutor(at_once) as pool:
            try:
                serving = [pool.submit(serve, process, waiting, trained) for process in self._processes[:at_once]]
                while wait(serving, PAUSE).not_done:
                    if stop.signal and not told:
                        waiting.clear()
                        # Not SIGINT: where no training has begun, a process would answer that with a traceback.
                        for process in self._processes:
                            process.terminate()
                        told = True
                if not stop.signal:
                    for served in serving:
                        served.result()
                    done = True
            finally:
                # Of a failure and of a second Ctrl-C: no training goes on alone. What each saved last stays.
                if not done:
                    dismiss(self._processes)
        if stop.signal:
            raise Stopped(stop.signal, "the trainings are saved")


def dismiss(processes: list[subprocess.Popen[bytes]]) -> None:
    """End them, whatever they do, and forget them."""
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    processes.clear()


def worker() -> subprocess.Popen[bytes]:
    """A new process that trains what it is given."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # What a process that was lost did not read must not be written again when its pipe is closed.
        bufsize=0,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # Ctrl-C reaches this process alone, which tells the others.
        start_new_session=True,
    )


def serve(process: subprocess.Popen[bytes], waiting: list[Wanted], trained: Callable[[], None]) -> None:
    """Give a process one training after the other, until none is left.

    Raises:
        RuntimeError: it ended before a training did.
    """
    assert process.stdin is not None, "it was asked for"
    assert process.stdout is not None, "so was this"
    while True:
        try:
            request, folder = waiting.pop()
        except IndexError:
            return
        # A process of our own code reads it, of nobody else.
        with suppress(BrokenPipeError):
            process.stdin.write(pickle.dumps((request, folder)))
        if not process.stdout.readline():
            waiting.clear()
            raise RuntimeError(f"the training in {folder} ended with status {process.wait()}")
        trained()


def work() -> None:
    """Train what comes on standard input, and say on standard output when each is done."""
    while True:
        try:
            request, folder = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            finish(request, folder, Progress())
        except Stopped as stop:
            sys.exit(128 + stop.signal)
        print(flush=True)
