"""Streams: every form alone, the shortest of them, and the range coder's arithmetic as the documentation has it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.errors import UserError
from convatlas.models.codec import streams
from convatlas.models.codec.bytestream import Choices, DamagedFileError, Reader, count
from convatlas.models.codec.streams import StreamForm, read, width_for, write

SYMBOLS = st.integers(1, 300).flatmap(
    lambda alphabet: st.tuples(st.just(alphabet), st.lists(st.integers(0, alphabet - 1), max_size=300))
)


@pytest.mark.parametrize("ranges", [True, False])
@given(SYMBOLS)
def test_symbols_come_back(ranges: bool, given: tuple[int, list[int]]) -> None:
    alphabet, symbols = given
    choices = Choices(ranges=ranges)
    reader = Reader(write(np.array(symbols, np.int32), alphabet, choices))
    assert read(reader, len(symbols), alphabet).tolist() == symbols
    reader.finish()
    assert reader.forms == choices.made
    assert ranges or not {StreamForm.COUNTED, StreamForm.GEOMETRIC} & set(choices.made)


@pytest.mark.parametrize("form", StreamForm)
@given(SYMBOLS)
def test_every_form_brings_them_back(form: StreamForm, given: tuple[int, list[int]]) -> None:
    alphabet, symbols = given
    try:
        written = write(np.array(symbols, np.int32), alphabet, Choices([form]))
    except DamagedFileError:
        # Less than a bit each.
        assert form in (StreamForm.COUNTED, StreamForm.GEOMETRIC)
        return
    reader = Reader(written)
    assert read(reader, len(symbols), alphabet).tolist() == symbols
    reader.finish()
    assert not symbols or len(written) > len(symbols) / 8


def test_without_symbols_nothing_is_written() -> None:
    assert write(np.zeros(0, np.int32), 5, Choices()) == b""
    assert read(Reader(b""), 0, 5).tolist() == []


def drawn(kind: str) -> np.ndarray:
    draw = np.random.default_rng(0)
    return {
        "uniform": draw.integers(0, 32, 4000),
        "skewed": draw.choice(6, 4000, p=[0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125]),
        "between": draw.choice(3, 4000, p=[0.7, 0.2, 0.1]),
        "gaps": np.minimum(draw.geometric(0.1, 4000) - 1, 254),
    }[kind].astype(np.int32)


@pytest.mark.parametrize(
    ("kind", "alphabet", "form"),
    [("uniform", 32, StreamForm.PLAIN), ("skewed", 6, StreamForm.HUFFMAN), ("between", 3, StreamForm.COUNTED),
     ("gaps", 256, StreamForm.GEOMETRIC)],
)  # fmt: skip
def test_each_form_has_its_place(kind: str, alphabet: int, form: StreamForm) -> None:
    choices = Choices()
    write(drawn(kind), alphabet, choices)
    assert choices.made == [form]


@pytest.mark.parametrize("kind", ["skewed", "between", "gaps"])
@pytest.mark.parametrize("ranges", [True, False])
def test_streams_are_near_their_entropy(kind: str, ranges: bool) -> None:
    symbols = drawn(kind)
    shares = np.bincount(symbols) / len(symbols)
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum() * len(symbols) / 8
    size = len(write(symbols, 256, Choices(ranges=ranges)))
    # Of three symbols Huffman's code cannot take less than a bit for the commonest.
    assert size < (1.03 if ranges else 1.13) * entropy + 40


def test_without_the_library_the_range_coder_is_not_chosen(no_range_coder: Callable[[], None]) -> None:
    symbols = drawn("gaps")
    ranged = write(symbols, 256, Choices())
    no_range_coder()
    choices = Choices()
    assert read(Reader(write(symbols, 256, choices)), len(symbols), 256).tolist() == symbols.tolist()
    assert choices.made == [StreamForm.HUFFMAN]
    for work in (lambda: read(Reader(ranged), len(symbols), 256), lambda: write(symbols, 256, Choices([2]))):
        with pytest.raises(UserError, match=r"pip install 'convatlas\[compress\]'"):
            work()


def range_decoded(words: list[int], weights: list[float], num: int) -> list[int]:
    """The decoder of docs/reference/cva.md, in plain numbers."""
    # Cumulative probabilities in 2^24ths: each symbol's share of what is left after one for each.
    left, total, cumulative = 2**24 - len(weights), sum(weights), [0]
    before = 0.0
    for symbol, weight in enumerate(weights):
        before += weight
        cumulative.append(int(before * (left / total)) + symbol + 1)
    cumulative[-1] = 2**24
    following = iter([*words, *[0] * (num + 2)])
    lower, span = 0, 2**64 - 1
    point = next(following) << 32 | next(following)
    found = []
    for _ in range(num):
        scale = span >> 24
        quantile = ((point - lower) % 2**64) // scale
        symbol = next(s for s in range(len(weights)) if cumulative[s + 1] > quantile)
        found.append(symbol)
        lower = (lower + scale * cumulative[symbol]) % 2**64
        span = scale * (cumulative[symbol + 1] - cumulative[symbol])
        if span < 2**32:
            lower, span = (lower << 32) % 2**64, span << 32
            point = (point << 32) % 2**64 | next(following)
    return found


@pytest.mark.parametrize(("kind", "form"), [("between", StreamForm.COUNTED), ("gaps", StreamForm.GEOMETRIC)])
def test_the_range_coder_is_as_documented(kind: str, form: StreamForm) -> None:
    symbols = drawn(kind)[:1500]
    reader = Reader(write(symbols, 256, Choices([form])))
    assert reader.byte() == form
    model = streams.read_counted if form == StreamForm.COUNTED else streams.read_geometric
    weights = model(reader, 256).tolist()
    words = np.frombuffer(reader.take(reader.count()), "<u4").tolist()
    assert range_decoded(words, weights, len(symbols)) == symbols.tolist()


def test_unknown_forms_and_symbols_beyond_the_alphabet_are_refused() -> None:
    with pytest.raises(DamagedFileError, match="unknown form 9"):
        read(Reader(b"\x09"), 1, 2)
    with pytest.raises(DamagedFileError, match="beyond the alphabet of 3"):
        read(Reader(b"\x00\xff"), 2, 3)
    assert [width_for(alphabet) for alphabet in (1, 2, 3, 256, 257)] == [1, 1, 2, 8, 9]


def test_no_stream_makes_more_symbols_than_it_has_bits() -> None:
    for form in StreamForm:
        tables = {
            StreamForm.PLAIN: b"",
            StreamForm.HUFFMAN: b"\x01\x10",
            StreamForm.COUNTED: b"\x01\x01",
            StreamForm.GEOMETRIC: b"xx",
        }
        content = bytes([form]) + tables[form] + (b"" if form == StreamForm.PLAIN else count(400)) + b"\x00" * 400
        with pytest.raises(DamagedFileError):
            read(Reader(content), 10**12, 2)


@given(st.binary(max_size=60), st.integers(1, 500), st.integers(1, 300))
def test_any_bytes_end_well_or_in_a_finding(content: bytes, num: int, alphabet: int) -> None:
    try:
        found = read(Reader(content), num, alphabet)
    except DamagedFileError:
        return
    assert found.shape == (num,)
    assert 0 <= found.min() <= found.max() < max(alphabet, 2)
