"""Two processes of one group."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist

from convatlas.experiments.engine.distributed_pair import run_on_pair


def summed(task: list[float], rank: int) -> tuple[int, float]:
    """The process, and the sum over both."""
    own = torch.tensor(task[rank])
    dist.all_reduce(own)
    return os.getpid(), float(own)


def lost(task: None, rank: int) -> None:
    if rank == 1:
        os._exit(3)


def test_two_processes_communicate() -> None:
    (first, one), (second, other) = run_on_pair(summed, [2.0, 5.0])
    assert first != second
    assert one == other == 7


def test_a_lost_process_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"one of two processes was lost: they ended with \[\d+, 3\]"):
        run_on_pair(lost, None)
