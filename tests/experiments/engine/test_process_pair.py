"""Two processes of one group."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist

from convatlas.experiments.engine.process_pair import in_pair


def summed(task: list[float], rank: int) -> tuple[int, float]:
    """A number of each process, and what both know together."""
    own = torch.tensor(task[rank])
    dist.all_reduce(own)
    return os.getpid(), float(own)


def lost(task: None, rank: int) -> None:
    if rank == 1:
        os._exit(3)


def test_two_processes_speak_to_each_other() -> None:
    (first, one), (second, other) = in_pair(summed, [2.0, 5.0])
    assert first != second
    assert one == other == 7


def test_a_process_that_is_lost_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"of two processes one was lost: they ended with \[\d+, 3\]"):
        in_pair(lost, None)
