"""Streams of symbols in the shortest of four forms: plain bits, Huffman's code, and a range coder with two models."""

from __future__ import annotations

import enum
from collections.abc import Callable
from types import ModuleType

import numpy as np
import numpy.typing as npt

from convatlas.errors import UserError
from convatlas.models.codec import huffman
from convatlas.models.codec.bytestream import Choices, Damaged, Form, Reader, count
from convatlas.models.codec.huffman import Symbols

AT_ONCE = 2**20
"""Symbols, a multiple of 8, whose bits are taken apart together."""


class Method(enum.IntEnum):
    """How a stream is written; the first byte of each."""

    PLAIN = 0
    """As many bits for each symbol as the alphabet needs, at least one."""
    HUFFMAN = 1
    COUNTED = 2
    """The range coder with how often each symbol occurs, in bytes."""
    GEOMETRIC = 3
    """The range coder with each symbol a constant factor rarer than the one before, as distances between independent
    places are."""


def write(symbols: Symbols, alphabet: int, choices: Choices) -> bytes:
    """A stream of symbols (n,) from 0 below `alphabet`. Of no symbols there is nothing to write."""
    if not len(symbols):
        return b""
    forms: dict[int, Form] = {
        Method.PLAIN: lambda _: plain(symbols, alphabet),
        Method.HUFFMAN: lambda _: with_huffman(symbols, alphabet),
    }
    if choices.ranges and (choices.again or range_coder() is not None):

        def ranged(model: bytes, weights: Callable[[Reader, int], npt.NDArray[np.float64]]) -> bytes | None:
            return with_ranges(symbols, model, weights(Reader(model), alphabet))

        forms[Method.COUNTED] = lambda _: ranged(counted(symbols), read_counted)
        forms[Method.GEOMETRIC] = lambda _: ranged(geometric(symbols), read_geometric)
    return choices.pick(forms)


def read(reader: Reader, num: int, alphabet: int) -> Symbols:
    """The `num` symbols of a stream, all below `alphabet`.

    Raises:
        Damaged: they are not there.
        UserError: they are written with the range coder, and its library is not installed.
    """
    if not num:
        return np.zeros(0, np.int32)
    match reader.kind():
        case Method.PLAIN:
            return read_plain(reader, num, alphabet)
        case Method.HUFFMAN:
            lengths = huffman.read_lengths(reader, alphabet)
            return huffman.decode(reader.take(reader.count()), num, lengths)
        case Method.COUNTED:
            return read_ranges(reader, num, read_counted(reader, alphabet))
        case Method.GEOMETRIC:
            return read_ranges(reader, num, read_geometric(reader, alphabet))
        case other:
            raise Damaged(f"a stream is written by an unknown method, {other}")


def width_for(alphabet: int) -> int:
    """Bits of a plain symbol."""
    return max((alphabet - 1).bit_length(), 1)


def plain(symbols: Symbols, alphabet: int) -> bytes:
    """Symbols of the same number of bits each, the top bit first; zeros fill the last byte."""
    if (width := width_for(alphabet)) == 8:
        return symbols.astype(np.uint8).tobytes()
    shifts = np.arange(width - 1, -1, -1, dtype=np.int32)
    parts = (symbols[begin : begin + AT_ONCE] for begin in range(0, len(symbols), AT_ONCE))
    return b"".join(np.packbits((part[:, None] >> shifts & 1).astype(np.uint8)).tobytes() for part in parts)


def read_plain(reader: Reader, num: int, alphabet: int) -> Symbols:
    width = width_for(alphabet)
    content = np.frombuffer(reader.take(-(-num * width // 8)), np.uint8)
    if width == 8:
        symbols = content.astype(np.int32)
    else:
        weights = 1 << np.arange(width - 1, -1, -1, dtype=np.int32)
        symbols = np.empty(num, np.int32)
        for begin in range(0, num, AT_ONCE):
            end = min(begin + AT_ONCE, num)
            bits = np.unpackbits(content[begin * width // 8 : -(-end * width // 8)])[: (end - begin) * width]
            symbols[begin:end] = bits.reshape(-1, width) @ weights
    if int(symbols.max()) >= alphabet:
        raise Damaged(f"a symbol beyond the {alphabet} that there are")
    return symbols


def with_huffman(symbols: Symbols, alphabet: int) -> bytes:
    lengths = huffman.code_lengths(np.bincount(symbols, minlength=alphabet))
    encoded = huffman.encode(symbols, lengths)
    return huffman.write_lengths(lengths) + count(len(encoded)) + encoded


def range_coder() -> ModuleType | None:
    """The library, where it is installed."""
    try:
        import constriction
    except ImportError:
        return None
    found: ModuleType = constriction
    return found


def needed_range_coder() -> ModuleType:
    """
    Raises:
        UserError: the library is not installed.
    """
    found = range_coder()
    if found is None:
        raise UserError("it is range-coded; pip install 'convatlas[compress]' brings what reads it")
    return found


def with_ranges(symbols: Symbols, model: bytes, weights: npt.NDArray[np.float64]) -> bytes | None:
    """Range-coded symbols after their model; None where they take less than a bit each.

    So any stream has at least a byte for eight symbols, and what a file can make a reader allocate is bounded by its
    size.
    """
    constriction = needed_range_coder()
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(symbols, constriction.stream.model.Categorical(weights, perfect=False))
    encoded = coder.get_compressed().astype("<u4").tobytes()
    return None if len(symbols) > 8 * len(encoded) else model + count(len(encoded)) + encoded


def read_ranges(reader: Reader, num: int, weights: npt.NDArray[np.float64]) -> Symbols:
    size = reader.count()
    if size % 4 or num > 8 * size:
        raise Damaged(f"{num} range-coded symbols in {size} bytes")
    words = np.frombuffer(reader.take(size), "<u4").astype(np.uint32)
    constriction = needed_range_coder()
    model = constriction.stream.model.Categorical(weights, perfect=False)
    try:
        symbols: Symbols = constriction.stream.queue.RangeDecoder(words).decode(model, num)
    except (AssertionError, ValueError) as error:
        raise Damaged("range-coded symbols that no model gives") from error
    return symbols


def counted(symbols: Symbols) -> bytes:
    """The number of symbols up to the last that occurs, and a byte for each: its share of the commonest one's 255."""
    counts = np.bincount(symbols).tolist()
    most = max(counts)
    return count(len(counts)) + bytes(max(1, 255 * each // most) if each else 0 for each in counts)


def read_counted(reader: Reader, alphabet: int) -> npt.NDArray[np.float64]:
    num = reader.count()
    if num > alphabet:
        raise Damaged(f"counts of {num} symbols where there are {alphabet}")
    weights = np.zeros(max(alphabet, 2))
    weights[:num] = np.frombuffer(reader.take(num), np.uint8)
    if not weights.any():
        raise Damaged("a stream of which no symbol occurs")
    # The library's models have two symbols or more.
    return weights


def geometric(symbols: Symbols) -> bytes:
    """How much rarer each symbol is than the one before, in 65536ths, as two bytes, the lower first."""
    total = int(symbols.sum(dtype=np.int64))
    ratio = 65536 * total // (total + len(symbols))
    return min(max(ratio, 1), 65535).to_bytes(2, "little")


def read_geometric(reader: Reader, alphabet: int) -> npt.NDArray[np.float64]:
    ratio = int.from_bytes(reader.take(2), "little")
    weights, weight = [], 2**32
    for _ in range(max(alphabet, 2)):
        weights.append(weight)
        # In whole numbers, the same everywhere.
        weight = max(weight * ratio >> 16, 1)
    return np.array(weights, np.float64)
