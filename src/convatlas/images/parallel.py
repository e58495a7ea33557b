"""Parallel work in threads with few results held at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import TypeVar

AHEAD = 2
"""Results that each thread makes before they are asked for."""


def available_cores() -> int:
    """Those that this process may use, which may be fewer than there are: containers and `taskset` give some away."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


WORKERS = available_cores()
"""Threads: one for each core."""

S = TypeVar("S")
T = TypeVar("T")


def parallel_map(function: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """`map` with a thread for each core; results come in the order of the items.

    `Executor.map` would take all items at once. Here only a few are worked on ahead of what is taken, so that any
    number of them passes through little memory.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > AHEAD * WORKERS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class MemoryLimit:
    """Bytes that all threads may hold together; one that wants more than all of them waits until it is alone."""

    def __init__(self, num_bytes: int) -> None:
        self._most = self._free = num_bytes
        self._changed = Condition()

    @contextmanager
    def held(self, num_bytes: int) -> Iterator[None]:
        """Wait until so many are free, and hold them."""
        wanted = min(num_bytes, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


MEMORY = MemoryLimit(WORKERS * 2**28)
"""For images in the middle of being decoded, of this process: photographs of 32 megapixels in every thread."""
