import pytest

from convatlas.formatting import count, duration, parse_size, percent, plural, size


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


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("0", 0),
        ("500", 500),
        ("20 GB", 20 * 10**9),
        ("20G", 20 * 10**9),
        ("1.5GiB", 3 * 2**29),
        (" 2 mib ", 2**21),
        ("7kB", 7000),
        ("3 TiB", 3 * 2**40),
        ("", None),
        ("GB", None),
        ("5 XB", None),
        ("-1 MB", None),
        ("1e9", None),
        ("5iB", None),
    ],
)
def test_a_size_is_read_in_powers_of_1000_and_with_an_i_of_1024(text: str, num_bytes: int | None) -> None:
    assert parse_size(text) == num_bytes
