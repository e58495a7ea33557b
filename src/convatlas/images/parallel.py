"""Parallel work in threads with few results held at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 2
"""Results that each thread makes before they are asked for."""

S = TypeVar("S")
T = TypeVar("T")


def parallel_map(function: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """`map` with a thread for each core; results come in the order of the items.

    `Executor.map` would take all items at once. Here only a few are worked on ahead of what is taken, so that any
    number of them passes through little memory.
    """
    workers = os.cpu_count() or 1
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
