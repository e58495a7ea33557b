"""The timer: how long calls take on this machine, and which engine computes them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from convatlas.formatting import plural

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Workload:
    """Something to time."""

    call: Callable[[], object]
    engine: str
    """What computes it, as "PyTorch eager, float32, 2 threads"; see `torch_engine`."""


@dataclass(frozen=True)
class Timing:
    """What a workload took."""

    engine: str
    durations_s: tuple[float, ...]
    """Of each call, in order."""

    @property
    def median_s(self) -> float:
        """The median duration of a call, in seconds."""
        return statistics.median(self.durations_s)

    @property
    def median_ms(self) -> float:
        """The same in milliseconds."""
        return 1000 * self.median_s


def time_call(
    call: Callable[[], object], engine: str, *, repeats: int = 5, num_warmups: int = 1, min_s: float = 0.0
) -> Timing:
    """Time one call.

    Args:
        engine: what computes it; see `torch_engine`.
        repeats: calls that are timed.
        num_warmups: calls before these.
        min_s: it is called until all timed calls together took at least so long, in seconds.
    """
    return time_in_turn({"": Workload(call, engine)}, repeats=repeats, num_warmups=num_warmups, min_s=min_s)[""]


def time_in_turn(
    workloads: Mapping[Name, Workload], *, repeats: int = 5, num_warmups: int = 1, min_s: float = 0.0
) -> dict[Name, Timing]:
    """Time several calls, one after the other in each round.

    A machine that slows down for a while slows all of them down: compare them by ratio, round by round.

    Args:
        repeats: rounds that are timed.
        num_warmups: rounds before these.
        min_s: rounds go on until each workload took at least so long in all, in seconds.

    Returns:
        For each name its timing, with a duration for each round.
    """
    for _ in range(num_warmups):
        for workload in workloads.values():
            _duration_s(workload)
    durations: dict[Name, list[float]] = {name: [] for name in workloads}
    rounds = 0
    while rounds < repeats or any(sum(of_one) < min_s for of_one in durations.values()):
        for name, workload in workloads.items():
            durations[name].append(_duration_s(workload))
        rounds += 1
    return {name: Timing(workloads[name].engine, tuple(of_one)) for name, of_one in durations.items()}


def torch_engine(device: torch.device | str = "cpu", *, compiled: bool = False, precision: str = "float32") -> str:
    """The name of PyTorch as an engine: its mode, the precision, and the threads or the GPU.

    As "PyTorch eager, float32, 2 threads" or "PyTorch compiled (Inductor), int8, 2 threads".
    """
    device = torch.device(device)
    if device.type == "cpu":
        place = plural(torch.get_num_threads(), "thread")
    elif device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    else:
        place = device.type
    return f"PyTorch {'compiled (Inductor)' if compiled else 'eager'}, {precision}, {place}"


def _duration_s(workload: Workload) -> float:
    _synchronize()
    start = time.perf_counter()
    workload.call()
    _synchronize()
    return time.perf_counter() - start


def _synchronize() -> None:
    """Wait for a GPU, which computes asynchronously."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
