"""Trainings side by side: small networks gain nothing from a second thread, and twice as much from a second process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from convatlas.training import Progress, Request, Stopped, finish
from convatlas.training.signals import StopRequest

PAUSE = 0.05
"""Seconds between two looks at what has ended."""
WORKER = "from convatlas.experiments.side_by_side import work; work()"


def train_side_by_side(wanted: Sequence[tuple[Request, Path]]) -> None:
    """Train each request into its folder, as many at once as there are cores, each with one thread.

    With a GPU, one after the other: one training fills it.

    Raises:
        Stopped: Ctrl-C or SIGTERM came; every training was told and has saved its state.
        RuntimeError: one of them ended otherwise than by its end; its own words are on standard error.
    """
    at_once = 1 if torch.cuda.is_available() else torch.get_num_threads()
    waiting = list(reversed(wanted))
    running: dict[subprocess.Popen[bytes], Path] = {}
    told = False
    with StopRequest() as stop:
        try:
            while running or (waiting and not stop.signal):
                while waiting and len(running) < at_once and not stop.signal:
                    request, folder = waiting.pop()
                    running[begun(request, folder)] = folder
                time.sleep(PAUSE)
                for process in [process for process in running if process.poll() is not None]:
                    folder = running.pop(process)
                    if process.returncode and not stop.signal:
                        raise RuntimeError(f"the training in {folder} ended with status {process.returncode}")
                if stop.signal and not told:
                    # Not SIGINT: before a training has begun, a process would answer that with a traceback.
                    for process in running:
                        process.terminate()
                    told = True
        finally:
            # Of a failure and of a second Ctrl-C: no training goes on alone. What each saved last stays.
            for process in running:
                process.kill()
                process.wait()
    if stop.signal:
        raise Stopped(stop.signal, "the trainings are saved")


def begun(request: Request, folder: Path) -> subprocess.Popen[bytes]:
    """A new process that trains it."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # Ctrl-C reaches this process alone, which tells the others.
        start_new_session=True,
    )
    assert process.stdin is not None, "it was asked for"
    # A process of our own code reads it, of nobody else.
    with process.stdin as stdin:
        stdin.write(pickle.dumps((request, folder)))
    return process


def work() -> None:
    """Train the request on standard input; what was stopped before goes on."""
    request, folder = pickle.load(sys.stdin.buffer)
    try:
        finish(request, folder, Progress())
    except Stopped as stop:
        sys.exit(128 + stop.signal)
