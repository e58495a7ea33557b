"""Streams of symbols, each in the shortest of four forms: plain bits, Huffman codes, or a range coder with two models.

The range coder is the library `constriction`, which is optional: without it, Huffman codes are the shortest.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from types import ModuleType

import numpy as np
import numpy.typing as npt

from convatlas.errors import UserError
from convatlas.models.codec import huffman
from convatlas.models.codec.bytestream import Choices, DamagedFileError, Reader, Writer, count
from convatlas.models.codec.huffman import Symbols

BLOCK = 2**20
"""Symbols whose bits are packed together; a multiple of 8."""


class StreamForm(enum.IntEnum):
    """How a stream is written; its first byte."""

    PLAIN = 0
    """For each symbol the bits that the alphabet needs, at least one."""
    HUFFMAN = 1
    COUNTED = 2
    """The range coder, with the count of each symbol as a byte."""
    GEOMETRIC = 3
    """The range coder, with each symbol rarer than the one before by a constant factor, as gaps between independent
    positions are."""


def write(symbols: Symbols, alphabet: int, choices: Choices) -> bytes:
    """A stream of symbols (n,) from 0 to `alphabet` - 1. Without symbols it is empty."""
    if not len(symbols):
        return b""
    forms: dict[int, Writer] = {
        StreamForm.PLAIN: lambda _: plain(symbols, alphabet),
        StreamForm.HUFFMAN: lambda _: with_huffman(symbols, alphabet),
    }
    if choices.ranges and (choices.again or range_coder() is not None):

        def ranged(model: bytes, weights: Callable[[Reader, int], npt.NDArray[np.float64]]) -> bytes | None:
            return with_ranges(symbols, model, weights(Reader(model), alphabet))

        forms[StreamForm.COUNTED] = lambda _: ranged(counted(symbols), read_counted)
        forms[StreamForm.GEOMETRIC] = lambda _: ranged(geometric(symbols), read_geometric)
    return choices.pick(forms)


def read(reader: Reader, num: int, alphabet: int) -> Symbols:
    """The `num` symbols of a stream, all below `alphabet`.

    Raises:
        DamagedFileError: the stream is not of these.
        UserError: it needs the range coder, whose library is not installed.
    """
    if not num:
        return np.zeros(0, np.int32)
    match reader.form():
        case StreamForm.PLAIN:
            return read_plain(reader, num, alphabet)
        case StreamForm.HUFFMAN:
            lengths = huffman.read_lengths(reader, alphabet)
            return huffman.decode(reader.take(reader.count()), num, lengths)
        case StreamForm.COUNTED:
            return read_ranges(reader, num, read_counted(reader, alphabet))
        case StreamForm.GEOMETRIC:
            return read_ranges(reader, num, read_geometric(reader, alphabet))
        case other:
            raise DamagedFileError(f"a stream has the unknown form {other}")


def width_for(alphabet: int) -> int:
    """The bits of a plain symbol."""
    return max((alphabet - 1).bit_length(), 1)


def plain(symbols: Symbols, alphabet: int) -> bytes:
    """Symbols of the same number of bits each, the top bit first; zeros fill the last byte."""
    if (width := width_for(alphabet)) == 8:
        return symbols.astype(np.uint8).tobytes()
    shifts = np.arange(width - 1, -1, -1, dtype=np.int32)
    parts = (symbols[begin : begin + BLOCK] for begin in range(0, len(symbols), BLOCK))
    return b"".join(np.packbits((part[:, None] >> shifts & 1).astype(np.uint8)).tobytes() for part in parts)


def read_plain(reader: Reader, num: int, alphabet: int) -> Symbols:
    width = width_for(alphabet)
    content = np.frombuffer(reader.take(-(-num * width // 8)), np.uint8)
    if width == 8:
        symbols = content.astype(np.int32)
    else:
        weights = 1 << np.arange(width - 1, -1, -1, dtype=np.int32)
        symbols = np.empty(num, np.int32)
        for begin in range(0, num, BLOCK):
            end = min(begin + BLOCK, num)
            bits = np.unpackbits(content[begin * width // 8 : -(-end * width // 8)])[: (end - begin) * width]
            symbols[begin:end] = bits.reshape(-1, width) @ weights
    if int(symbols.max()) >= alphabet:
        raise DamagedFileError(f"a symbol beyond the alphabet of {alphabet}")
    return symbols


def with_huffman(symbols: Symbols, alphabet: int) -> bytes:
    lengths = huffman.code_lengths(np.bincount(symbols, minlength=alphabet))
    encoded = huffman.encode(symbols, lengths)
    return huffman.write_lengths(lengths) + count(len(encoded)) + encoded


def range_coder() -> ModuleType | None:
    """The library, if it is installed."""
    try:
        import constriction
    except ImportError:
        return None
    found: ModuleType = constriction
    return found


def required_range_coder() -> ModuleType:
    """
    Raises:
        UserError: the library is not installed.
    """
    found = range_coder()
    if found is None:
        raise UserError("it is range-coded; pip install 'convatlas[compress]' to read it")
    return found


def with_ranges(symbols: Symbols, model: bytes, weights: npt.NDArray[np.float64]) -> bytes | None:
    """Range-coded symbols after their model; None if they take less than a bit each.

    So every stream has at least a byte for eight symbols, and the size of a file bounds what its reader allocates.
    """
    constriction = required_range_coder()
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(symbols, constriction.stream.model.Categorical(weights, perfect=False))
    encoded = coder.get_compressed().astype("<u4").tobytes()
    return None if len(symbols) > 8 * len(encoded) else model + count(len(encoded)) + encoded


def read_ranges(reader: Reader, num: int, weights: npt.NDArray[np.float64]) -> Symbols:
    size = reader.count()
    if size % 4 or num > 8 * size:
        raise DamagedFileError(f"{num} range-coded symbols in {size} bytes")
    words = np.frombuffer(reader.take(size), "<u4").astype(np.uint32)
    constriction = required_range_coder()
    model = constriction.stream.model.Categorical(weights, perfect=False)
    try:
        symbols: Symbols = constriction.stream.queue.RangeDecoder(words).decode(model, num)
    except (AssertionError, ValueError) as error:
        raise DamagedFileError("range-coded symbols that the model cannot give") from error
    return symbols


def counted(symbols: Symbols) -> bytes:
    """The number of symbols up to the last that occurs, and a byte for each: its count, where the largest is 255."""
    counts = np.bincount(symbols).tolist()
    most = max(counts)
    return count(len(counts)) + bytes(max(1, 255 * each // most) if each else 0 for each in counts)


def read_counted(reader: Reader, alphabet: int) -> npt.NDArray[np.float64]:
    num = reader.count()
    if num > alphabet:
        raise DamagedFileError(f"counts of {num} symbols where there are {alphabet}")
    weights = np.zeros(max(alphabet, 2))
    weights[:num] = np.frombuffer(reader.take(num), np.uint8)
    if not weights.any():
        raise DamagedFileError("a stream without a symbol that occurs")
    # The library's models have at least two symbols.
    return weights


def geometric(symbols: Symbols) -> bytes:
    """The ratio of each symbol's frequency to the one before, in 65536ths, as two bytes, the lower first."""
    total = int(symbols.sum(dtype=np.int64))
    ratio = 65536 * total // (total + len(symbols))
    return min(max(ratio, 1), 65535).to_bytes(2, "little")


def read_geometric(reader: Reader, alphabet: int) -> npt.NDArray[np.float64]:
    ratio = int.from_bytes(reader.take(2), "little")
    weights, weight = [], 2**32
    for _ in range(max(alphabet, 2)):
        weights.append(weight)
        # In integers, which are the same on every machine.
        weight = max(weight * ratio >> 16, 1)
    return np.array(weights, np.float64)
