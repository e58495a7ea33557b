import pytest

from convatlas.formatting import count, duration, percent, plural, size


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (8.34, "8.3 s"),
        (60, "1 min 00 s"),
        (245.4, "4 min 05 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7385, "2 h 03 min"),
    ],
)
def test_a_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("num_bytes", "shown"),
    [(512, "0.5 KiB"), (2**20 - 2**10, "1,023.0 KiB"), (2**20, "1.0 MiB"), (5 * 2**30, "5.0 GiB")],
)
def test_a_size(num_bytes: int, shown: str) -> None:
    assert size(num_bytes) == shown


def test_one_of_a_thing_and_several() -> None:
    assert plural(1, "thread") == "1 thread"
    assert plural(2000, "thread") == "2,000 threads"


def test_a_count_and_a_percentage() -> None:
    assert count(60000) == "60,000"
    assert percent(0.98765) == "98.77 %"
