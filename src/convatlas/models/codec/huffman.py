"""A canonical Huffman code with at most 15 bits a symbol: its code lengths define it.

Updates depend on the lengths that `code_lengths` gives, byte for byte; docs/reference/cva.md says how ties are broken.
"""

from __future__ import annotations

import heapq
import itertools

import numpy as np
import numpy.typing as npt

from convatlas.models.codec.bytestream import DamagedFileError, Reader, count

MAX_CODE_BITS = 15
"""Of a code."""
BLOCK = 2**18
"""Symbols encoded together, and bits decoded together; it bounds the memory beside the result."""

Symbols = npt.NDArray[np.int32]
Lengths = npt.NDArray[np.int64]


def code_lengths(counts: npt.NDArray[np.int64]) -> Lengths:
    """The bits of each symbol's code, from how often each symbol occurs; 0 for those that do not.

    While a code is longer than `MAX_CODE_BITS`, the counts are halved and the tree is built again.
    """
    used = np.flatnonzero(counts).tolist()
    lengths = np.zeros(len(counts), np.int64)
    if len(used) == 1:
        # A code of 0 bits would not bound the number of symbols by the size of the stream.
        lengths[used[0]] = 1
    weights = [int(counts[symbol]) for symbol in used]
    while len(used) > 1:
        numbers = itertools.count(len(used))
        heap = [(weight, leaf) for leaf, weight in enumerate(weights)]
        heapq.heapify(heap)
        parents: dict[int, int] = {}
        while len(heap) > 1:
            (one, left), (other, right) = heapq.heappop(heap), heapq.heappop(heap)
            parent = next(numbers)
            parents[left] = parents[right] = parent
            heapq.heappush(heap, (one + other, parent))
        root = heap[0][1]
        depths = {root: 0}
        for node in range(root - 1, -1, -1):
            depths[node] = depths[parents[node]] + 1
        lengths[used] = [depths[leaf] for leaf in range(len(used))]
        if lengths.max() <= MAX_CODE_BITS:
            break
        weights = [(weight + 1) // 2 for weight in weights]
    return lengths


def canonical_codes(lengths: Lengths) -> npt.NDArray[np.int64]:
    """The code of each symbol: shorter ones first, and those of one length in the order of the symbols."""
    codes = np.zeros(len(lengths), np.int64)
    code = 0
    for bits in range(1, MAX_CODE_BITS + 1):
        of_length = np.flatnonzero(lengths == bits)
        codes[of_length] = code + np.arange(len(of_length))
        code = (code + len(of_length)) << 1
    return codes


def write_lengths(lengths: Lengths) -> bytes:
    """The number of symbols up to the last that occurs, and their lengths in half bytes, the upper half first.

    After a length of 0, another half byte says how many more zeros follow.
    """
    last = int(np.flatnonzero(lengths)[-1]) + 1
    halves: list[int] = []
    for length, run in itertools.groupby(lengths[:last].tolist()):
        num = len(list(run))
        if length:
            halves += [length] * num
        while not length and num > 0:
            halves += [0, min(num, 16) - 1]
            num -= 16
    halves += [0] * (len(halves) % 2)
    return count(last) + bytes(upper << 4 | lower for upper, lower in zip(halves[::2], halves[1::2], strict=True))


def read_lengths(reader: Reader, alphabet: int) -> Lengths:
    """The lengths (alphabet,) that `write_lengths` wrote.

    Raises:
        DamagedFileError: they are no complete code, or one for more symbols.
    """
    last = reader.count()
    if not 0 < last <= alphabet:
        raise DamagedFileError(f"a code for {last} of {alphabet} symbols")
    lengths: list[int] = []
    halves: list[int] = []

    def half() -> int:
        if not halves:
            byte = reader.byte()
            halves.extend((byte & 15, byte >> 4))
        return halves.pop()

    while len(lengths) < last:
        length = half()
        lengths += [length] if length else [0] * (half() + 1)
    if len(lengths) > last:
        raise DamagedFileError("more code lengths than symbols")
    found = np.array(lengths + [0] * (alphabet - last), np.int64)
    used = found[found > 0]
    full = int((1 << (MAX_CODE_BITS - used)).sum())
    if full != 1 << MAX_CODE_BITS and not (len(used) == 1 and used[0] == 1):
        raise DamagedFileError("code lengths of an incomplete or impossible code")
    return found


def encode(symbols: Symbols, lengths: Lengths) -> bytes:
    """The codes of all symbols one after another, from the top bit of the first byte; zeros fill the last byte."""
    codes = canonical_codes(lengths)
    written = bytearray()
    pending = np.zeros(0, np.uint8)
    for begin in range(0, len(symbols), BLOCK):
        part = symbols[begin : begin + BLOCK]
        widths, values = lengths[part], codes[part]
        starts = len(pending) + np.cumsum(widths) - widths
        bits = np.zeros(len(pending) + int(widths.sum()), np.uint8)
        bits[: len(pending)] = pending
        for index in range(int(widths.max())):
            reaching = widths > index
            shift = widths[reaching] - 1 - index
            bits[starts[reaching] + index] = values[reaching] >> shift & 1
        whole = len(bits) // 8 * 8
        written += np.packbits(bits[:whole]).tobytes()
        pending = bits[whole:]
    return bytes(written + np.packbits(pending).tobytes())


def decode(content: bytes, num: int, lengths: Lengths) -> Symbols:
    """The `num` symbols that `encode` wrote.

    Raises:
        DamagedFileError: the bytes hold fewer or more.
    """
    if num > 8 * len(content):
        raise DamagedFileError(f"{num} codes in {len(content)} bytes")
    widest = int(lengths.max())
    # For the next bits, the symbol whose code they begin with, and its length. Bits of no code lead out of the block.
    symbol_at = np.zeros(1 << widest, np.int32)
    length_at = np.full(1 << widest, 2 * BLOCK, np.int64)
    for symbol, code in enumerate(canonical_codes(lengths).tolist()):
        if width := int(lengths[symbol]):
            begin = code << (widest - width)
            symbol_at[begin : begin + (1 << (widest - width))] = symbol
            length_at[begin : begin + (1 << (widest - width))] = width
    padded = np.zeros(len(content) + 2, np.uint32)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    shifts = np.arange(24 - widest, 16 - widest, -1, dtype=np.uint32)
    found = np.zeros(num, np.int32)
    done, at = 0, 0
    while done < num:
        if at >= 8 * len(content):
            raise DamagedFileError("a stream of codes ends too early")
        first = at // 8
        block = padded[first : min(first + BLOCK // 8, len(content)) + 2]
        ahead = block[:-2] << 16 | block[1:-1] << 8 | block[2:]
        windows = (ahead[:, None] >> shifts & ((1 << widest) - 1)).ravel()
        steps = length_at[windows].tolist()
        starts: list[int] = []
        position = at - 8 * first
        end, wanted = len(steps), num - done
        while position < end and len(starts) < wanted:
            starts.append(position)
            position += steps[position]
        found[done : done + len(starts)] = symbol_at[windows[starts]]
        if position >= 2 * BLOCK:
            raise DamagedFileError("bits that are no code")
        done += len(starts)
        at = 8 * first + position
    if -(-at // 8) != len(content):
        raise DamagedFileError("a stream of codes is shorter or longer than it says")
    return found
