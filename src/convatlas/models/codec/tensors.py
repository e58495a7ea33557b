"""The tensors of a network as bytes: few values as a codebook and codes, zeros as distances between the others.

Everything is exact: the numbers that come back have the bits of those that were written.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from convatlas.models.codec import streams
from convatlas.models.codec.bytestream import Choices, Damaged, Form, Reader, count
from convatlas.models.codec.huffman import Symbols

MOST_VALUES = 4096
"""Of a codebook, zero not counted."""
GAPS = 256
"""Symbols of the distances."""
FILLER = GAPS - 1
"""The distance that means: so many zeros, and nothing after them."""

Bits = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
"""Numbers as keys: in the order of the numbers, the negative ones first."""
Array = npt.NDArray[Any]


class Kind(enum.IntEnum):
    """How a tensor is written; the first byte of each, which no method of a stream has."""

    INTEGERS = 4
    FLOATS = 5
    """Each number by itself."""
    SPARSE = 6
    """Distances between the weights that are not 0, and their codes."""
    DENSE = 7
    """The codes of all weights."""


@dataclass(frozen=True, eq=False)
class Floats:
    """Numbers of 32 bits, or of 16 where none loses anything by it."""

    keys: Bits
    """(n,)"""

    @classmethod
    def of(cls, values: npt.NDArray[np.float32]) -> Self:
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        exact = np.array_equal(halves.astype(np.float32).view(np.uint32), values.view(np.uint32))
        return cls(keys_of(halves.view(np.uint16) if exact else values.view(np.uint32)))

    @property
    def values(self) -> npt.NDArray[np.float32]:
        bits = bits_of(self.keys)
        return bits.view(np.float16 if bits.dtype == np.uint16 else np.float32).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Coded:
    """Weights of few values."""

    codebook: Floats
    """The values (k,) other than 0, ascending."""
    codes: Symbols
    """(n,): 0 for the weight 0, else 1 more than the place in the codebook."""

    @property
    def values(self) -> npt.NDArray[np.float32]:
        return np.concatenate([np.zeros(1, np.float32), self.codebook.values])[self.codes]


@dataclass(frozen=True, eq=False)
class Integers:
    values: npt.NDArray[np.int64]


Tensor = Floats | Coded | Integers


def keys_of(bits: Bits) -> Bits:
    """Bits of floating-point numbers as numbers in their order: a set sign turns all bits round, else it is set."""
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def bits_of(keys: Bits) -> Bits:
    sign = keys.dtype.type(1 << (8 * keys.itemsize - 1))
    return np.where(keys & sign, keys ^ sign, ~keys)


def taken_apart(values: Array) -> Tensor:
    """What is written of a tensor: a codebook where its values repeat.

    Raises:
        ValueError: it has another type than networks have.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype == np.int64:
        return Integers(flat)
    if flat.dtype != np.float32:
        raise ValueError(f"no network has tensors of {flat.dtype}")
    # By their bits: minus 0 is another number than 0 here.
    found, places = np.unique(keys_of(flat.view(np.uint32)), return_inverse=True)
    zero = keys_of(np.zeros(1, np.uint32))
    others = found[found != zero]
    if len(others) > min(MOST_VALUES, len(flat) // 2):
        return Floats.of(flat)
    code_of = np.zeros(len(found), np.int32)
    code_of[found != zero] = np.arange(1, len(others) + 1)
    return Coded(Floats.of(bits_of(others).view(np.float32)), code_of[places])


def put_together(tensor: Tensor, shape: tuple[int, ...]) -> Array:
    return tensor.values.reshape(shape)


def write(tensor: Tensor, choices: Choices) -> bytes:
    if isinstance(tensor, Coded):
        forms: dict[int, Form] = {
            Kind.SPARSE: lambda inner: book(tensor, inner) + sparse(tensor.codes, len(tensor.codebook.keys), inner)
        }
        if len(tensor.codes) <= MOST_VALUES:
            # A codebook may take more than it saves.
            own = Floats.of(tensor.values)
            forms[Kind.FLOATS] = lambda inner: floats(own.keys, inner)
        if tensor.codes.all():
            forms[Kind.DENSE] = lambda inner: book(tensor, inner) + dense(tensor, inner)
        return choices.pick(forms)
    if isinstance(tensor, Floats):
        return choices.pick({Kind.FLOATS: lambda inner: floats(tensor.keys, inner)})
    return choices.pick({Kind.INTEGERS: lambda _: b"".join(map(zigzag, tensor.values.tolist()))})


def read(reader: Reader, num: int, integers: bool) -> Tensor:
    """A tensor of `num` numbers.

    Args:
        integers: whether they are whole numbers.

    Raises:
        Damaged: it is not there.
    """
    kind = reader.kind()
    if integers != (kind == Kind.INTEGERS):
        raise Damaged(f"a tensor of another type than the network's, {kind}")
    match kind:
        case Kind.INTEGERS:
            return Integers(np.array([unzigzag(reader.count()) for _ in range(num)], np.int64))
        case Kind.FLOATS:
            return Floats(read_floats(reader, num))
        case Kind.SPARSE:
            codebook = read_book(reader)
            return Coded(codebook, read_sparse(reader, num, len(codebook.keys)))
        case Kind.DENSE:
            codebook = read_book(reader)
            if not len(codebook.keys):
                raise Damaged("codes without a codebook")
            return Coded(codebook, streams.read(reader, num, len(codebook.keys)) + np.int32(1))
        case other:
            raise Damaged(f"a tensor is written in an unknown way, {other}")


def zigzag(value: int) -> bytes:
    """0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""
    return count(2 * value if value >= 0 else -2 * value - 1)


def unzigzag(value: int) -> int:
    return -(value + 1) // 2 if value % 2 else value // 2


def floats(keys: Bits, choices: Choices) -> bytes:
    """The bytes of a number, then a stream for each of its bytes over all numbers, the lowest first."""
    apart = keys.astype(keys.dtype.newbyteorder("<")).view(np.uint8).reshape(-1, keys.itemsize)
    parts = [streams.write(apart[:, place].astype(np.int32), 256, choices) for place in range(keys.itemsize)]
    return bytes([keys.itemsize]) + b"".join(parts)


def read_floats(reader: Reader, num: int) -> Bits:
    size = reader.byte()
    if size not in (2, 4):
        raise Damaged(f"numbers of {size} bytes")
    together = np.zeros(num, np.uint32)
    for place in range(size):
        together |= streams.read(reader, num, 256).astype(np.uint32) << (8 * place)
    return together.astype(np.uint16) if size == 2 else together


def book(tensor: Coded, choices: Choices) -> bytes:
    """How many values, and the first key followed by what each has more than the one before."""
    keys = tensor.codebook.keys
    return count(len(keys)) + floats(np.diff(keys, prepend=keys.dtype.type(0)), choices)


def read_book(reader: Reader) -> Floats:
    num = reader.count()
    if num > MOST_VALUES:
        raise Damaged(f"a codebook of {num} values")
    steps = read_floats(reader, num)
    # Beyond the last key they begin again.
    np.cumsum(steps, dtype=steps.dtype, out=steps)
    return Floats(steps)


def dense(tensor: Coded, choices: Choices) -> bytes:
    return streams.write(tensor.codes - np.int32(1), len(tensor.codebook.keys), choices)


def sparse(codes: Symbols, num_values: int, choices: Choices) -> bytes:
    """Where codes (n,) are not 0, and those less 1, which are below `num_values`."""
    places = np.flatnonzero(codes)
    gaps = distances(places, len(codes))
    return (
        count(len(gaps))
        + streams.write(gaps, GAPS, choices)
        + streams.write(codes[places] - np.int32(1), num_values, choices)
    )


def read_sparse(reader: Reader, num: int, num_values: int) -> Symbols:
    num_gaps = reader.count()
    if num_gaps > num + num // FILLER:
        raise Damaged(f"{num_gaps} distances in {num} weights")
    places = read_places(streams.read(reader, num_gaps, GAPS), num)
    if len(places) and not num_values:
        raise Damaged("codes without a codebook")
    codes = np.zeros(num, np.int32)
    codes[places] = streams.read(reader, len(places), num_values) + np.int32(1)
    return codes


def distances(places: npt.NDArray[np.int64], num: int) -> Symbols:
    """How many zeros come before each of the ascending places, in symbols below `GAPS`.

    Han, Mao and Dally 2016, section 2: a larger distance takes a filler. Fillers also lead to less than one filler's
    zeros before the end, `num`, so that a file of so many distances has room for so many weights.
    """
    zeros = np.diff(places, prepend=-1, append=num) - 1
    fillers = zeros // FILLER
    # Each place's symbols are its fillers and then the rest; the end has its fillers alone.
    ends = np.cumsum(fillers + 1) - 1
    gaps = np.full(int(ends[-1]) + 1, FILLER, np.int32)
    gaps[ends] = zeros % FILLER
    return gaps[:-1]


def read_places(gaps: Symbols, num: int) -> npt.NDArray[np.int64]:
    """The places of `distances`.

    Raises:
        Damaged: they lead beyond `num`, or not near enough to it.
    """
    fillers = gaps == FILLER
    # A filler is its zeros alone, another distance its zeros and a weight.
    after = np.cumsum(gaps.astype(np.int64) + ~fillers)
    end = int(after[-1]) if len(after) else 0
    if not 0 <= num - end < FILLER:
        raise Damaged(f"distances lead to weight {end} of {num}")
    places: npt.NDArray[np.int64] = after[~fillers] - 1
    return places
