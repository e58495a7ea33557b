"""Huffman codes: known trees, round trips, and bits that are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.models.codec import huffman
from convatlas.models.codec.bytestream import DamagedFileError, Reader
from convatlas.models.codec.huffman import (
    MAX_CODE_BITS,
    canonical_codes,
    code_lengths,
    decode,
    encode,
    read_lengths,
    write_lengths,
)


def lengths_of(*counts: int) -> list[int]:
    return code_lengths(np.array(counts)).tolist()


def test_known_trees() -> None:
    assert lengths_of(8, 4, 2, 1, 1) == [1, 2, 3, 4, 4]
    assert lengths_of(1, 1, 1, 1) == [2, 2, 2, 2]
    assert lengths_of(0, 5, 0) == [0, 1, 0]
    assert lengths_of(0, 3, 0, 9) == [0, 1, 0, 1]
    # Huffman 1952, Table I.
    assert (
        lengths_of(20, 18, 10, 10, 10, 6, 6, 4, 4, 4, 4, 3, 1)
        in (
            [2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5],
            [2, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 5, 5],
            [2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5],
        )
        or sum(
            count * length
            for count, length in zip(
                (20, 18, 10, 10, 10, 6, 6, 4, 4, 4, 4, 3, 1),
                lengths_of(20, 18, 10, 10, 10, 6, 6, 4, 4, 4, 4, 3, 1),
                strict=True,
            )
        )
        == 342
    )


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300).filter(any))
def test_codes_fill_the_tree_and_are_bounded(counts: list[int]) -> None:
    lengths = code_lengths(np.array(counts))
    used = lengths[lengths > 0]
    assert len(used) == sum(count > 0 for count in counts)
    assert lengths.max() <= MAX_CODE_BITS
    assert sum(2.0 ** -int(length) for length in used) == (0.5 if len(used) == 1 else 1)
    reader = Reader(write_lengths(lengths))
    assert read_lengths(reader, len(counts)).tolist() == lengths.tolist()
    reader.finish()


def test_fibonacci_counts_would_make_the_longest_codes() -> None:
    counts = [1, 1]
    while len(counts) < 40:
        counts.append(counts[-1] + counts[-2])
    assert code_lengths(np.array(counts)).max() == MAX_CODE_BITS


def test_codes_are_canonical() -> None:
    # RFC 1951, section 3.2.2.
    codes = canonical_codes(np.array([3, 3, 3, 3, 3, 2, 4, 4])).tolist()
    assert codes == [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=500))
def test_symbols_come_back(symbols: list[int]) -> None:
    values = np.array(symbols, np.int32)
    lengths = code_lengths(np.bincount(values))
    encoded = encode(values, lengths)
    assert len(encoded) == -(-int(lengths[values].sum()) // 8)
    assert decode(encoded, len(values), lengths).tolist() == symbols


@pytest.mark.parametrize("num", [1, 63, 64, 65, 1000, 5000])
def test_blocks_join_without_a_seam(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huffman, "BLOCK", 64)
    values = np.random.default_rng(num).geometric(0.2, num).astype(np.int32)
    lengths = code_lengths(np.bincount(values))
    assert decode(encode(values, lengths), num, lengths).tolist() == values.tolist()


def test_bits_that_are_no_code_are_refused() -> None:
    lengths = np.array([1, 0])
    assert decode(b"\x00", 8, lengths).tolist() == [0] * 8
    with pytest.raises(DamagedFileError, match="no code"):
        decode(b"\x10", 8, lengths)


def test_streams_of_another_length_are_refused() -> None:
    lengths = np.array([2, 2, 2, 2])
    for num, content in ((4, b"\x00\x00"), (5, b"\x00"), (9, b"\x00"), (1, b"")):
        with pytest.raises(DamagedFileError):
            decode(content, num, lengths)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"\x02\x12", b"\x03\x11\x10", b"\x02\x11\x11\x11"[:1], b"\x01\x20", b"\x02\x0f\x0f", b"\x09\x11"],
)
def test_lengths_that_make_no_code_are_refused(content: bytes) -> None:
    with pytest.raises(DamagedFileError):
        read_lengths(Reader(content), 8)


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(1, 400))
def test_any_bytes_end_well_or_in_a_finding(table: bytes, content: bytes, num: int) -> None:
    try:
        found = decode(content, num, read_lengths(Reader(table), 64))
    except DamagedFileError:
        return
    assert len(found) == num
    assert found.max() < 64
