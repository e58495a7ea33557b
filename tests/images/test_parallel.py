"""Parallel work gives its results in order, and never holds many."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from convatlas.images import parallel_map
from convatlas.images.parallel import AHEAD, WORKERS, MemoryLimit


def test_results_come_in_the_order_of_the_things() -> None:
    first = threading.Event()

    def work(thing: int) -> int:
        if thing == 0 and WORKERS > 1:
            # The first ends last of those that are worked on together.
            assert first.wait(60)
        else:
            first.set()
        return thing**2

    assert list(parallel_map(work, range(50))) == [thing**2 for thing in range(50)]


def test_cores_that_were_given_away_are_not_used() -> None:
    # Some systems give none away.
    gives = hasattr(os, "sched_setaffinity")
    code = (
        f"import os; {gives} and os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}});"
        "from convatlas.images.parallel import WORKERS, available_cores; print(WORKERS, available_cores())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == 2 * [str(1 if gives else os.cpu_count())]


def test_few_are_worked_on_ahead_of_what_is_taken() -> None:
    asked = []

    def things() -> Iterator[int]:
        for thing in range(1000):
            asked.append(thing)
            yield thing

    results = parallel_map(lambda thing: thing, things())
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(asked) <= 10 + AHEAD * WORKERS


def test_an_error_comes_to_whoever_takes_the_result() -> None:
    results = parallel_map(lambda thing: 1 // thing, [1, 0])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_nothing_gives_nothing() -> None:
    assert list(parallel_map(str, [])) == []


def test_threads_hold_no_more_than_the_limit_but_for_one_alone() -> None:
    limit, lock = MemoryLimit(10), threading.Lock()
    held: list[int] = []
    most: list[int] = []

    def work(amount: int) -> None:
        with limit.held(amount):
            with lock:
                held.append(amount)
                most.append(sum(held))
            with lock:
                held.remove(amount)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in [3, 4, 99, 5, 1, 99, 10, 2] * 20]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == len(threads)
    assert {total for total in most if total > 10} == {99}


def test_memory_is_given_back_after_an_error() -> None:
    limit = MemoryLimit(1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), limit.held(1):
            raise ZeroDivisionError
