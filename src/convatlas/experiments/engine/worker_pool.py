"""Trainings in parallel: small networks gain nothing from a second thread, and twice as much from a second process."""

from __future__ import annotations

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

from convatlas.experiments.engine.child_process import start_process
from convatlas.training import Progress, Request, Stopped, train_or_resume
from convatlas.training.signals import StopRequest

POLL_S = 0.2
"""How often to check for a request to stop, in seconds."""

Job = tuple[Request, Path]
"""A training, and the folder of its run."""


class WorkerPool:
    """Processes that train in parallel, as many as torch has threads here, each with one thread.

    They start with the first training and stay for the next: to start one takes as long as a small training.
    """

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        # Also where nobody closes the pool.
        weakref.finalize(self, kill_all, self._processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        kill_all(self._processes)

    def train(self, jobs: Sequence[Job], on_training_end: Callable[[], None] = lambda: None) -> None:
        """Train each request in its folder. With a GPU, one after the other: one training keeps it busy.

        Args:
            on_training_end: called after each training, in any thread.

        Raises:
            Stopped: Ctrl-C or SIGTERM came; every training was stopped and has saved its state.
            RuntimeError: the process of a training failed or was lost; its own messages are on standard error.
        """
        num_parallel = min(1 if torch.cuda.is_available() else torch.get_num_threads(), len(jobs))
        if not num_parallel:
            return
        while len(self._processes) < num_parallel:
            # Unbuffered: what a lost process did not read must not be written again when its pipe is closed.
            self._processes.append(start_process(train_jobs, num_threads=1, stdout=subprocess.PIPE, bufsize=0))
        waiting = list(reversed(jobs))
        finished = stopping = False
        with StopRequest() as stop, ThreadPoolExecutor(num_parallel) as threads:
            try:
                feeding = [
                    threads.submit(feed, process, waiting, on_training_end)
                    for process in self._processes[:num_parallel]
                ]
                while wait(feeding, POLL_S).not_done:
                    if stop.signal and not stopping:
                        waiting.clear()
                        # Not SIGINT, which a process without a training at hand would answer with a traceback.
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


def kill_all(processes: list[subprocess.Popen[bytes]]) -> None:
    """End the processes, whatever they do, and forget them."""
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    processes.clear()


def feed(process: subprocess.Popen[bytes], waiting: list[Job], on_training_end: Callable[[], None]) -> None:
    """Give a process one job after the other, until none is left.

    Raises:
        RuntimeError: it ended before a training did.
    """
    assert process.stdin is not None, "start_process makes it"
    assert process.stdout is not None, "the pool asks for it"
    while True:
        try:
            request, folder = waiting.pop()
        except IndexError:
            return
        # Only a process of our own code reads it.
        with suppress(BrokenPipeError):
            process.stdin.write(pickle.dumps((request, folder)))
        if not process.stdout.readline():
            waiting.clear()
            raise RuntimeError(f"the training in {folder} ended with status {process.wait()}")
        on_training_end()


def train_jobs() -> None:
    """What a worker does: train each job that comes on standard input, and print a line after each."""
    while True:
        try:
            request, folder = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            train_or_resume(request, folder, Progress())
        except Stopped as stop:
            sys.exit(128 + stop.signal)
        print(flush=True)
