"""Trainings side by side: small networks gain nothing from a second thread, and twice as much from a second process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from convatlas.training import Request, train_as
from convatlas.training.progress import Progress

WORKER = "from convatlas.experiments.side_by_side import work; work()"


def train_side_by_side(wanted: Sequence[tuple[Request, Path]]) -> None:
    """Train each request into its folder, as many at once as there are cores, each with one thread.

    With a GPU, one after the other: one training fills it.

    Raises:
        RuntimeError: one of them ended otherwise than by its end; its own words are on standard error.
    """
    at_once = 1 if torch.cuda.is_available() else torch.get_num_threads()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def trained(request: Request, folder: Path) -> None:
        # A process of our own code reads it, of nobody else.
        done = subprocess.run(
            [sys.executable, "-c", WORKER], input=pickle.dumps((request, folder)), env=environment, check=False
        )
        if done.returncode:
            raise RuntimeError(f"the training in {folder} ended with status {done.returncode}")

    with ThreadPoolExecutor(at_once) as pool:
        for training in [pool.submit(trained, *one) for one in wanted]:
            training.result()


def work() -> None:
    """Train the request on standard input."""
    request, folder = pickle.load(sys.stdin.buffer)
    train_as(request, folder, Progress())
