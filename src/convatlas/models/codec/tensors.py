"""The tensors of a network as bytes: shared values as a codebook and codes, zeros as gaps between the other weights.

The coding is lossless: the numbers that are read have the bits of those that were written.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from convatlas.models.codec import streams
from convatlas.models.codec.bytestream import Choices, DamagedFileError, Reader, Writer, count
from convatlas.models.codec.huffman import Symbols

MAX_VALUES = 4096
"""Of a codebook, which has no 0."""
NUM_GAPS = 256
"""The alphabet of the gaps."""
FILLER = NUM_GAPS - 1
"""The gap of that many zeros without a weight after them."""

Bits = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
"""Of floating-point numbers."""
Keys = Bits
"""Integers in the order of the numbers that they stand for, the negative ones first."""
Array = npt.NDArray[Any]


class TensorForm(enum.IntEnum):
    """How a tensor is written; its first byte, which is none of `StreamForm`."""

    INTEGERS = 4
    FLOATS = 5
    """The numbers themselves."""
    SPARSE = 6
    """The gaps between the weights that are not 0, and the codes of these."""
    DENSE = 7
    """The codes of all weights."""


@dataclass(frozen=True, eq=False)
class Floats:
    """Numbers of 32 bits, or of 16 if that loses nothing."""

    keys: Keys
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
    """Weights that share few values."""

    codebook: Floats
    """The values (k,) other than 0, ascending."""
    codes: Symbols
    """(n,): 0 for the weight 0, else the index in the codebook plus 1."""

    @property
    def values(self) -> npt.NDArray[np.float32]:
        return np.concatenate([np.zeros(1, np.float32), self.codebook.values])[self.codes]


@dataclass(frozen=True, eq=False)
class Integers:
    """64-bit integers, such as the number of batches that batch normalization has seen."""

    values: npt.NDArray[np.int64]


EncodedTensor = Floats | Coded | Integers
"""A tensor as it is written, without its shape."""


def keys_of(bits: Bits) -> Keys:
    """The keys of floating-point numbers: their bits, all inverted if the sign is set, else with the sign set."""
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def bits_of(keys: Keys) -> Bits:
    """The bits of the numbers with these keys."""
    sign = keys.dtype.type(1 << (8 * keys.itemsize - 1))
    return np.where(keys & sign, keys ^ sign, ~keys)


def from_array(values: Array) -> EncodedTensor:
    """The encoded form of a tensor, with a codebook if values repeat.

    Raises:
        ValueError: its type is neither float32 nor int64.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype == np.int64:
        return Integers(flat)
    if flat.dtype != np.float32:
        raise ValueError(f"no network has tensors of {flat.dtype}")
    # By their bits: minus 0 and 0 are different here.
    found, indices = np.unique(keys_of(flat.view(np.uint32)), return_inverse=True)
    zero = keys_of(np.zeros(1, np.uint32))
    others = found[found != zero]
    if len(others) > min(MAX_VALUES, len(flat) // 2):
        return Floats.of(flat)
    code_of = np.zeros(len(found), np.int32)
    code_of[found != zero] = np.arange(1, len(others) + 1)
    return Coded(Floats.of(bits_of(others).view(np.float32)), code_of[indices])


def to_array(tensor: EncodedTensor, shape: tuple[int, ...]) -> Array:
    """The tensor again, with its shape."""
    return tensor.values.reshape(shape)


def write(tensor: EncodedTensor, choices: Choices) -> bytes:
    """The bytes of a tensor."""
    if isinstance(tensor, Coded):
        forms: dict[int, Writer] = {
            TensorForm.SPARSE: lambda inner: (
                codebook(tensor, inner) + sparse(tensor.codes, len(tensor.codebook.keys), inner)
            )
        }
        if len(tensor.codes) <= MAX_VALUES:
            # A codebook may take more than it saves.
            own = Floats.of(tensor.values)
            forms[TensorForm.FLOATS] = lambda inner: floats(own.keys, inner)
        if tensor.codes.all():
            forms[TensorForm.DENSE] = lambda inner: codebook(tensor, inner) + dense(tensor, inner)
        return choices.pick(forms)
    if isinstance(tensor, Floats):
        return choices.pick({TensorForm.FLOATS: lambda inner: floats(tensor.keys, inner)})
    return choices.pick({TensorForm.INTEGERS: lambda _: b"".join(map(zigzag, tensor.values.tolist()))})


def read(reader: Reader, num: int, integers: bool) -> EncodedTensor:
    """A tensor of `num` numbers.

    Args:
        integers: whether they are integers.

    Raises:
        DamagedFileError: what follows is not such a tensor.
    """
    form = reader.form()
    if integers != (form == TensorForm.INTEGERS):
        raise DamagedFileError(f"a tensor of another type than the network's, in form {form}")
    match form:
        case TensorForm.INTEGERS:
            return Integers(np.array([unzigzag(reader.count()) for _ in range(num)], np.int64))
        case TensorForm.FLOATS:
            return Floats(read_floats(reader, num))
        case TensorForm.SPARSE:
            values = read_codebook(reader)
            return Coded(values, read_sparse(reader, num, len(values.keys)))
        case TensorForm.DENSE:
            values = read_codebook(reader)
            if not len(values.keys):
                raise DamagedFileError("codes without a codebook")
            return Coded(values, streams.read(reader, num, len(values.keys)) + np.int32(1))
        case other:
            raise DamagedFileError(f"a tensor has the unknown form {other}")


def zigzag(value: int) -> bytes:
    """A signed integer as a count: 0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""
    return count(2 * value if value >= 0 else -2 * value - 1)


def unzigzag(value: int) -> int:
    return -(value + 1) // 2 if value % 2 else value // 2


def floats(keys: Keys, choices: Choices) -> bytes:
    """The size of a number in bytes, then a stream for each of its bytes over all numbers, the lowest first."""
    split = keys.astype(keys.dtype.newbyteorder("<")).view(np.uint8).reshape(-1, keys.itemsize)
    parts = [streams.write(split[:, index].astype(np.int32), 256, choices) for index in range(keys.itemsize)]
    return bytes([keys.itemsize]) + b"".join(parts)


def read_floats(reader: Reader, num: int) -> Keys:
    """The `num` keys that `floats` wrote."""
    size = reader.byte()
    if size not in (2, 4):
        raise DamagedFileError(f"numbers of {size} bytes")
    keys = np.zeros(num, np.uint32)
    for index in range(size):
        keys |= streams.read(reader, num, 256).astype(np.uint32) << (8 * index)
    return keys.astype(np.uint16) if size == 2 else keys


def codebook(tensor: Coded, choices: Choices) -> bytes:
    """The number of values, the first key, and the difference of each key to the one before."""
    keys = tensor.codebook.keys
    return count(len(keys)) + floats(np.diff(keys, prepend=keys.dtype.type(0)), choices)


def read_codebook(reader: Reader) -> Floats:
    """The values that `codebook` wrote."""
    num = reader.count()
    if num > MAX_VALUES:
        raise DamagedFileError(f"a codebook of {num} values")
    steps = read_floats(reader, num)
    # Sums wrap around.
    np.cumsum(steps, dtype=steps.dtype, out=steps)
    return Floats(steps)


def dense(tensor: Coded, choices: Choices) -> bytes:
    """The codes of all weights, none of which is 0."""
    return streams.write(tensor.codes - np.int32(1), len(tensor.codebook.keys), choices)


def sparse(codes: Symbols, num_values: int, choices: Choices) -> bytes:
    """The gaps between the codes (n,) that are not 0, and these codes minus 1, which are below `num_values`."""
    positions = np.flatnonzero(codes)
    gaps = gaps_of(positions, len(codes))
    return (
        count(len(gaps))
        + streams.write(gaps, NUM_GAPS, choices)
        + streams.write(codes[positions] - np.int32(1), num_values, choices)
    )


def read_sparse(reader: Reader, num: int, num_values: int) -> Symbols:
    """The codes (num,) that `sparse` wrote."""
    num_gaps = reader.count()
    if num_gaps > num + num // FILLER:
        raise DamagedFileError(f"{num_gaps} gaps in {num} weights")
    positions = positions_of(streams.read(reader, num_gaps, NUM_GAPS), num)
    if len(positions) and not num_values:
        raise DamagedFileError("codes without a codebook")
    codes = np.zeros(num, np.int32)
    codes[positions] = streams.read(reader, len(positions), num_values) + np.int32(1)
    return codes


def gaps_of(positions: npt.NDArray[np.int64], num: int) -> Symbols:
    """The number of zeros before each of the ascending positions, in symbols below `NUM_GAPS`.

    Han, Mao and Dally 2016, section 2: a longer gap takes fillers. Fillers also lead to less than one filler's zeros
    before the end, `num`, so that the number of gaps bounds the number of weights.
    """
    zeros = np.diff(positions, prepend=-1, append=num) - 1
    fillers = zeros // FILLER
    # The symbols of a position are its fillers and then the rest; the end has fillers alone.
    ends = np.cumsum(fillers + 1) - 1
    gaps = np.full(int(ends[-1]) + 1, FILLER, np.int32)
    gaps[ends] = zeros % FILLER
    return gaps[:-1]


def positions_of(gaps: Symbols, num: int) -> npt.NDArray[np.int64]:
    """The positions that `gaps_of` was given.

    Raises:
        DamagedFileError: the gaps end beyond `num`, or a filler or more before it.
    """
    fillers = gaps == FILLER
    # A filler is its zeros alone, another gap its zeros and a weight.
    after = np.cumsum(gaps.astype(np.int64) + ~fillers)
    end = int(after[-1]) if len(after) else 0
    if not 0 <= num - end < FILLER:
        raise DamagedFileError(f"gaps lead to weight {end} of {num}")
    positions: npt.NDArray[np.int64] = after[~fillers] - 1
    return positions
