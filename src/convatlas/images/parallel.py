"""Work on many things side by side, of which few are held at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 2
"""Results for each thread that are made before they are asked for."""

S = TypeVar("S")
T = TypeVar("T")


def side_by_side(work: Callable[[S], T], things: Iterable[S]) -> Iterator[T]:
    """What `work` makes of each, in their order, by a thread for each core.

    A few are worked on ahead of what is taken, never all: any number of them passes through little memory.
    """
    workers = os.cpu_count() or 1
    coming: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for thing in things:
            coming.append(pool.submit(work, thing))
            if len(coming) > AHEAD * workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
