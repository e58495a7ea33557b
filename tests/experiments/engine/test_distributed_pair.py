"""Two processes of one group."""

from __future__ import annotations

import errno
import os

import pytest
import torch
import torch.distributed as dist

from convatlas.errors import UserError
from convatlas.experiments.engine.distributed_pair import run_on_pair


def summed(task: list[float], rank: int) -> tuple[int, float]:
    """The process, and the sum over both."""
    own = torch.tensor(task[rank])
    dist.all_reduce(own)
    return os.getpid(), float(own)


def lost(task: None, rank: int) -> None:
    if rank == 1:
        os._exit(3)
    dist.barrier()


def failed(task: None, rank: int) -> None:
    if rank == 1:
        raise OSError(errno.ENOSPC, "No space left on device", "a file")
    dist.barrier()


@pytest.mark.slow
def test_two_processes_communicate() -> None:
    (first, one), (second, other) = run_on_pair(summed, [2.0, 5.0])
    assert first != second
    assert one == other == 7


@pytest.mark.slow
def test_a_lost_process_is_an_error() -> None:
    with pytest.raises(UserError, match=r"a process ended with status 3; what was done is kept"):
        run_on_pair(lost, None)


@pytest.mark.slow
def test_a_failure_is_raised_and_not_what_the_other_says_of_it() -> None:
    with pytest.raises(OSError, match="No space left on device: 'a file'"):
        run_on_pair(failed, None)
