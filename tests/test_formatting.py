import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from convatlas.formatting import count, duration, parse_size, percent, plural, shorten, size


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


@given(st.text(max_size=90), st.integers(5, 60))
def test_a_shortened_name_fits_and_a_short_one_is_whole(name: str, most: int) -> None:
    shown = shorten(name, most)
    assert cell_len(shown) <= most
    assert (shown == name) == (cell_len(name) <= most)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("short", "short"),
        ("a" * 20 + "b" * 20, "aaaaa…bbbbb"),
        ("猫" * 20 + "犬" * 20, "猫猫…犬犬"),
        # An accent stays with its letter.
        ("x" * 30 + "e" + "\u0301" + "bbbbb", "xxxxx…bbbbb"),
    ],
)
def test_of_a_long_name_both_ends_are_shown(name: str, shown: str) -> None:
    assert shorten(name, 11) == shown
