"""Trainings in parallel: small networks gain nothing from a second thread, and twice as much from a second process."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Self

import torch

from convatlas.errors import UserError
from convatlas.experiments.engine.child_process import ChildProcess, LostProcessError
from convatlas.training import DivergedError, Progress, Request, Stopped, train_or_resume
from convatlas.training.signals import StopRequest

POLL_S = 0.2
"""How often to check for a request to stop, in seconds."""

Job = tuple[Request, Path]
"""A training, and the folder of its run."""
Work = Callable[[Request, Path], None]


def train(request: Request, folder: Path) -> None:
    """What a worker does. The run stays in its folder."""
    train_or_resume(request, folder, Progress())


def train_if_finite(request: Request, folder: Path) -> None:
    """The same for a training that may diverge; then there is no finished run."""
    with suppress(DivergedError):
        train(request, folder)


class WorkerPool:
    """Processes that train in parallel, as many as torch has threads here, each with one thread.

    They start with the first training and stay for the next: to start one takes as long as a small training.
    """

    def __init__(self) -> None:
        self._processes: list[ChildProcess] = []
        # Also where nobody closes the pool.
        weakref.finalize(self, kill_all, self._processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        kill_all(self._processes)

    def run(
        self,
        jobs: Sequence[Job],
        on_training_end: Callable[[], None] = lambda: None,
        *,
        work: Work = train,
    ) -> None:
        """Train each request in its folder. With a GPU, one after the other: one training keeps it busy.

        Args:
            on_training_end: called after each training, in any thread.
            work: what a worker does with a request, a function of a module.

        Raises:
            Stopped: Ctrl-C or SIGTERM came; every training was stopped and has saved its state.
            UserError: as of the first training that fails; or its process was lost.
            OSError, MemoryError, RuntimeError: likewise; see `ChildProcess.begin`.
        """
        num_parallel = min(1 if torch.cuda.is_available() else torch.get_num_threads(), len(jobs))
        if not num_parallel:
            return
        while len(self._processes) < num_parallel:
            self._processes.append(ChildProcess(num_threads=1))
        waiting = list(reversed(jobs))
        finished = stopping = False
        with StopRequest() as stop, ThreadPoolExecutor(num_parallel) as threads:
            try:
                feeding = [
                    threads.submit(feed, process, work, waiting, on_training_end)
                    for process in self._processes[:num_parallel]
                ]
                while wait(feeding, POLL_S).not_done:
                    if stop.signal and not stopping:
                        waiting.clear()
                        for process in self._processes:
                            process.terminate()
                        stopping = True
                if not stop.signal:
                    for one in feeding:
                        one.result()
                    finished = True
            finally:
                # After a failure or a second Ctrl-C no training goes on alone. What each saved last stays.
                if not finished:
                    kill_all(self._processes)
        if stop.signal:
            raise Stopped(stop.signal, "the trainings are saved")


def kill_all(processes: list[ChildProcess]) -> None:
    """End the processes, whatever they do, and forget them."""
    for process in processes:
        process.kill()
    processes.clear()


def feed(process: ChildProcess, work: Work, waiting: list[Job], on_training_end: Callable[[], None]) -> None:
    """Give a process one job after the other, until none is left. After a failure no process begins another."""
    while True:
        try:
            request, folder = waiting.pop()
        except IndexError:
            return
        try:
            process.begin(work, request, folder)()
        except Exception as error:
            waiting.clear()
            if isinstance(error, LostProcessError):
                raise UserError(f"the training in {folder} was lost: {error}") from error
            raise
        on_training_end()
