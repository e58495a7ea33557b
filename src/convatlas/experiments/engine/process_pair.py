"""Two processes that speak to each other (torch.distributed), as two machines would: by gloo, between GPUs by NCCL."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Before there is a group, as `training.processes` says.
import torch.distributed.nn

T = TypeVar("T")
A = TypeVar("A")
NUM = 2
WORKER = "from convatlas.experiments.engine.process_pair import work; work()"
PATIENCE = timedelta(minutes=5)
"""For the other process."""


def in_pair(function: Callable[[T, int], A], task: T) -> list[A]:
    """What `function(task, rank)` gives in each of two new processes of one group.

    Args:
        function: a module's own, so that a new process finds it.

    Raises:
        RuntimeError: a process ended otherwise than by its end; its own words are on standard error.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = pickle.dumps((function, task))
        environment = os.environ | {"OMP_NUM_THREADS": str(max(torch.get_num_threads() // NUM, 1))}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(rank), name],
                stdin=subprocess.PIPE,
                env=environment,
                # Ctrl-C reaches this process alone, which ends the others.
                start_new_session=True,
            )
            for rank in range(NUM)
        ]
        try:
            for process in processes:
                assert process.stdin is not None, "it was asked for"
                with process.stdin as stdin:
                    stdin.write(given)
            # As large as a network; the two have it now.
            del given
            # Each is waited for, also where the first was lost.
            statuses = [process.wait() for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if any(statuses):
            raise RuntimeError(f"of two processes one was lost: they ended with {statuses}")
        # Written by our own processes, a moment ago.
        return [pickle.loads((folder / f"answer{rank}").read_bytes()) for rank in range(NUM)]


def device_of(rank: int) -> torch.device:
    """A GPU for each of the processes, where there are as many."""
    return torch.device("cuda", rank) if torch.cuda.device_count() >= NUM else torch.device("cpu")


def work() -> None:
    """Be one of them: its rank and their folder are arguments, what to do comes by standard input."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    function: Callable[[Any, int], Any]
    function, task = pickle.load(sys.stdin.buffer)
    meeting = (folder / "meeting").as_uri()
    backend = "gloo" if device_of(rank).type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=NUM, timeout=PATIENCE)
    try:
        (folder / f"answer{rank}").write_bytes(pickle.dumps(function(task, rank)))
        dist.barrier()
    finally:
        dist.destroy_process_group()
