import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from convatlas.formatting import (
    count,
    duration,
    parse_size,
    percent,
    plural,
    round_count,
    shorten,
    size,
    valid_unicode,
    visible,
)


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


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 K"),
        (9999, "10.0 K"),
        (60_000, "60.0 K"),
        (999_499, "999 K"),
        (999_500, "1.00 M"),
        (138_357_544, "138 M"),
        (15_470_264_320, "15.5 G"),
    ],
)
def test_a_count_in_three_digits(number: int, shown: str) -> None:
    assert round_count(number) == shown


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


UNDECODED = b"caf\xe9".decode(errors="surrogateescape")
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")
"""By a terminal."""
NAMES = st.text(st.characters(exclude_categories=()), max_size=20)
"""Lone surrogates too."""


@given(NAMES, st.sampled_from(["utf-8", "cp1252", "ascii", "latin-1"]))
@example("a\u202eb\u2028c\x9b31m", "utf-8")
def test_any_text_is_one_line_that_the_terminal_can_encode(text: str, encoding: str) -> None:
    shown = visible(text, encoding)
    assert shown.encode(encoding).decode(encoding) == shown
    assert len(shown.splitlines()) <= 1
    assert not OBEYED.search(shown)
    # What is shown is not escaped once more.
    assert visible(shown, encoding) == shown


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("größer 猫 \U0001f468\u200d\U0001f469", "utf-8", "größer 猫 \U0001f468\u200d\U0001f469"),
        ("3×224 ± 0.5 …", "ascii", "3x224 +/- 0.5 ..."),
        ("3×224 ± 0.5 …", "cp1252", "3×224 ± 0.5 …"),
        ("猫", "cp1252", r"\u732b"),
        ("é", "ascii", r"\xe9"),
        (UNDECODED, "utf-8", r"caf\xe9"),
        ("\ud800", "utf-8", r"\ud800"),
        ("tab\tnew\nline\r\x1b]0;title\x07", "utf-8", r"tab\tnew\nline\r\x1b]0;title\x07"),
        ("a\\b", "utf-8", "a\\b"),
    ],
    ids=ascii,
)
def test_what_cannot_be_shown_is_escaped(text: str, encoding: str, shown: str) -> None:
    assert visible(text, encoding) == shown


@given(NAMES)
def test_programs_get_unicode_and_otherwise_the_very_name(text: str) -> None:
    valid = valid_unicode(text)
    valid.encode()
    assert (valid == text) == (re.search("[\ud800-\udfff]", text) is None)
