"""Timings in several processes: where memory lies and how threads are placed differs from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from convatlas.experiments.engine.child_process import ChildProcess

P = ParamSpec("P")
R = TypeVar("R")
NUM_PROCESSES = 3


def in_processes(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> list[R]:
    """What the function returns in each of three new processes, one after the other, with this process's threads.

    Args:
        function: of a module, by which the processes find it.

    Raises:
        UserError, OSError, RuntimeError: see `ChildProcess.begin`.
    """
    results = []
    for _ in range(NUM_PROCESSES):
        process = ChildProcess(num_threads=torch.get_num_threads())
        try:
            results.append(process.begin(function, *args, **kwargs)())
        finally:
            process.kill()
    return results
