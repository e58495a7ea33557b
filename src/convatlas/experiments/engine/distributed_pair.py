"""Two processes of one torch.distributed group, in place of two machines: gloo on CPUs, NCCL between GPUs."""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Must be imported before there is a group, as `training.distribution` says.
import torch.distributed.nn

from convatlas.experiments.engine.child_process import start_process

T = TypeVar("T")
R = TypeVar("R")
WORLD_SIZE = 2
TIMEOUT = timedelta(minutes=5)
"""How long one process waits for the other."""


def run_on_pair(function: Callable[[T, int], R], task: T) -> list[R]:
    """The results of `function(task, rank)` in each of two new processes of one group.

    Args:
        function: of a module, by which the new processes find it.

    Raises:
        RuntimeError: a process failed or was lost; its own messages are on standard error.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = pickle.dumps((function, task))
        num_threads = max(torch.get_num_threads() // WORLD_SIZE, 1)
        processes = [start_process(run_rank, str(rank), name, num_threads=num_threads) for rank in range(WORLD_SIZE)]
        try:
            for process in processes:
                assert process.stdin is not None, "start_process makes it"
                # What a lost process has to say is its status.
                with suppress(BrokenPipeError), process.stdin as stdin:
                    stdin.write(content)
            # As large as a network, and the two have it now.
            del content
            # Wait for each, also where the first was lost.
            statuses = [process.wait() for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if any(statuses):
            raise RuntimeError(f"one of two processes was lost: they ended with {statuses}")
        # Written by our own processes, a moment ago.
        return [pickle.loads((folder / f"result{rank}").read_bytes()) for rank in range(WORLD_SIZE)]


def device_of(rank: int) -> torch.device:
    """A GPU for each of the processes, where there are two."""
    return torch.device("cuda", rank) if torch.cuda.device_count() >= WORLD_SIZE else torch.device("cpu")


def run_rank() -> None:
    """What a process does: its rank and the folder come as arguments, function and task on standard input."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    function: Callable[[Any, int], Any]
    function, task = pickle.load(sys.stdin.buffer)
    rendezvous = (folder / "rendezvous").as_uri()
    backend = "gloo" if device_of(rank).type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=WORLD_SIZE, timeout=TIMEOUT)
    try:
        (folder / f"result{rank}").write_bytes(pickle.dumps(function(task, rank)))
        dist.barrier()
    finally:
        dist.destroy_process_group()
