"""Integers, the end of the bytes, and choices that are made again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.models.codec.bytestream import Choices, DamagedFileError, Reader, count


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_counts_come_back(values: list[int]) -> None:
    reader = Reader(b"".join(map(count, values)))
    assert [reader.count() for _ in values] == values
    reader.finish()


def test_a_count_is_as_long_as_its_number() -> None:
    assert [len(count(value)) for value in (0, 127, 128, 2**14 - 1, 2**14, 2**63 - 1)] == [1, 1, 2, 2, 3, 9]


def test_a_count_without_end_is_refused() -> None:
    with pytest.raises(DamagedFileError, match="63 bits"):
        Reader(b"\xff" * 100).count()


@given(st.binary(max_size=20), st.integers(0, 2**62))
def test_nothing_is_read_beyond_the_end(content: bytes, num: int) -> None:
    reader = Reader(content)
    if num <= len(content):
        assert reader.take(num) == content[:num]
    else:
        with pytest.raises(DamagedFileError, match=f"where {len(content)} are left"):
            reader.take(num)


def test_what_follows_the_end_is_found() -> None:
    with pytest.raises(DamagedFileError, match="1 bytes follow"):
        Reader(b"x").finish()


def forms(choices: Choices) -> bytes:
    inner = {7: lambda _: b"long", 8: lambda _: b"s", 9: lambda _: None}
    return choices.pick({1: lambda inside: inside.pick(inner) + b"!", 2: lambda _: b"longer still"})


def test_the_shortest_forms_are_chosen_and_can_be_chosen_again() -> None:
    choices = Choices()
    assert forms(choices) == b"\x01\x08s!"
    assert choices.made == [1, 8]
    assert forms(Choices([1, 8])) == b"\x01\x08s!"
    assert forms(Choices([1, 7])) == b"\x01\x07long!"
    assert forms(Choices([2])) == b"\x02longer still"


@pytest.mark.parametrize("again", [[], [1], [3], [1, 9], [1, 2]])
def test_choices_that_do_not_fit_are_refused(again: list[int]) -> None:
    with pytest.raises(DamagedFileError, match="cannot hold"):
        forms(Choices(again))
