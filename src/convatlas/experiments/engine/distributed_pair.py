"""Two processes of one torch.distributed group, in place of two machines: gloo on CPUs, NCCL between GPUs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

# Must be imported before there is a group, as `training.distribution` says.
import torch.distributed.nn

from convatlas.experiments.engine.child_process import ChildProcess

T = TypeVar("T")
R = TypeVar("R")
WORLD_SIZE = 2
HOST = "127.0.0.1"
# In PyTorch's documentation, but not in what it tells type checkers.
Store = dist.TCPStore  # type: ignore[attr-defined]
TIMEOUT = timedelta(minutes=5)
"""How long one process waits for the other."""


def run_on_pair(function: Callable[[T, int], R], task: T) -> list[R]:
    """The results of `function(task, rank)` in each of two new processes of one group.

    Args:
        function: of a module, by which the new processes find it.

    Raises:
        UserError, OSError, RuntimeError: see `ChildProcess.begin`.
    """
    # Not a file, which would stay where this process is killed.
    store = Store(HOST, 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
    num_threads = max(torch.get_num_threads() // WORLD_SIZE, 1)
    processes = [ChildProcess(num_threads=num_threads) for _ in range(WORLD_SIZE)]
    with ThreadPoolExecutor(WORLD_SIZE) as threads:
        try:
            # One after the other: a task may be as large as a network, and is copied to be sent.
            begun = [
                process.begin(run_rank, function, task, rank, store.port) for rank, process in enumerate(processes)
            ]
            results = [threads.submit(one) for one in begun]
            # For each, also where the first was lost.
            wait(results)
        finally:
            for process in processes:
                process.kill()
    errors = [error for one in results if (error := one.exception())]
    if errors:
        # Where one process fails, the other has lost it, and says so too.
        raise min(errors, key=lambda error: isinstance(error, RuntimeError)) from errors[-1]
    return [one.result() for one in results]


def device_of(rank: int) -> torch.device:
    """A GPU for each of the processes, where there are two."""
    return torch.device("cuda", rank) if torch.cuda.device_count() >= WORLD_SIZE else torch.device("cpu")


def run_rank(function: Callable[[T, int], R], task: T, rank: int, port: int) -> R:
    """What a process does.

    Args:
        port: of the store by which the two find each other.
    """
    backend = "gloo" if device_of(rank).type == "cpu" else "cpu:gloo,cuda:nccl"
    store = Store(HOST, port, is_master=False, timeout=TIMEOUT)
    dist.init_process_group(backend, store=store, rank=rank, world_size=WORLD_SIZE, timeout=TIMEOUT)
    try:
        result = function(task, rank)
        dist.barrier()
        return result
    finally:
        dist.destroy_process_group()
