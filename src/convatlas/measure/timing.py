"""How long something takes on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The median duration of a call, after one that warms up."""
    return statistics.median(seconds_in_turn({"": work}, repeats)[""])


def seconds_in_turn(works: Mapping[Name, Callable[[], object]], repeats: int = 5) -> dict[Name, tuple[float, ...]]:
    """The durations of calls of each, one after the other, after a call of each that warms up.

    In turn, a machine that slows down for a while slows all of them down: compare by ratio.

    Returns:
        for each name `repeats` durations as they came.
    """
    times: dict[Name, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            _wait()
            begun = time.perf_counter()
            work()
            _wait()
            if turn:
                times[name].append(time.perf_counter() - begun)
    return {name: tuple(found) for name, found in times.items()}


def _wait() -> None:
    """A GPU computes behind the program's back."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
