"""Tensors come back bit for bit, however they are written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convatlas.models.codec import tensors
from convatlas.models.codec.bytestream import Choices, DamagedFileError, Reader, count
from convatlas.models.codec.tensors import (
    FILLER,
    Coded,
    Floats,
    TensorForm,
    bits_of,
    from_array,
    gaps_of,
    keys_of,
    positions_of,
    to_array,
)

FLOATS = arrays(np.float32, st.integers(0, 200), elements=st.floats(width=32))
"""With minus 0, infinities and what is not a number."""
FEW = st.lists(st.floats(width=32), min_size=1, max_size=20).flatmap(
    lambda values: arrays(np.float32, st.integers(0, 400), elements=st.sampled_from(values))
)


def back(values: np.ndarray) -> np.ndarray:
    taken = from_array(values)
    choices = Choices()
    written = tensors.write(taken, choices)
    reader = Reader(written)
    found = tensors.read(reader, values.size, values.dtype == np.int64)
    reader.finish()
    assert reader.forms == choices.made
    assert tensors.write(found, Choices(choices.made)) == written
    return to_array(found, values.shape)


@given(st.one_of(FLOATS, FEW))
def test_any_numbers_come_back_bit_for_bit(values: np.ndarray) -> None:
    assert back(values).tobytes() == values.tobytes()


@given(arrays(np.int64, st.integers(0, 20), elements=st.integers(-(2**62), 2**62 - 1)))
def test_integers_come_back(values: np.ndarray) -> None:
    assert back(values).tolist() == values.tolist()


@given(arrays(np.float32, 50, elements=st.floats(width=32, allow_nan=False)))
def test_keys_are_in_the_order_of_the_numbers(values: np.ndarray) -> None:
    keys = keys_of(values.view(np.uint32))
    assert bits_of(keys).tobytes() == values.tobytes()
    assert (values[np.argsort(keys)] == np.sort(values)).all()


@given(st.lists(st.integers(0, 5000), unique=True), st.integers(0, 2000))
def test_positions_come_back_from_their_gaps(positions: list[int], more: int) -> None:
    wanted = np.array(sorted(positions), np.int64)
    num = max([*positions, -1]) + 1 + more
    gaps = gaps_of(wanted, num)
    assert positions_of(gaps, num).tolist() == wanted.tolist()
    # As many as there are fillers and positions, so that a file bounds what it unfolds to.
    assert num <= 256 * len(gaps) + FILLER


def test_gaps_are_as_the_paper_draws_them() -> None:
    assert gaps_of(np.array([1, 4]), 5).tolist() == [1, 2]
    assert gaps_of(np.array([0, 255, 511]), 512).tolist() == [0, 254, FILLER, 0]
    assert gaps_of(np.array([], np.int64), 600).tolist() == [FILLER, FILLER]


@pytest.mark.parametrize("gaps", [[5, 5], [0], [FILLER] * 4])
def test_gaps_that_lead_elsewhere_are_refused(gaps: list[int]) -> None:
    with pytest.raises(DamagedFileError, match="lead to weight"):
        positions_of(np.array(gaps, np.int32), 700 if gaps == [0] else 8)


def pruned(num: int, kept: float, num_values: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    values = draw.standard_normal(num_values).astype(np.float16).astype(np.float32)
    weights = values[draw.integers(0, num_values, num)]
    weights[draw.random(num) > kept] = 0
    return weights


@pytest.mark.parametrize("kept", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("ranges", [True, False])
def test_sparse_weights_are_near_their_entropy(kept: float, ranges: bool) -> None:
    weights = pruned(100_000, kept, 16)
    written = tensors.write(from_array(weights), Choices(ranges=ranges))
    entropy = -kept * np.log2(kept) - (1 - kept) * np.log2(1 - kept) + 4 * kept
    assert len(written) < (1.01 if ranges else 1.04) * entropy * len(weights) / 8 + 200
    assert back(weights).tobytes() == weights.tobytes()


def test_numbers_of_16_bits_take_half() -> None:
    halves = np.random.default_rng(0).standard_normal(1000).astype(np.float16).astype(np.float32)
    wide = halves * np.float32(1.0001)
    assert len(tensors.write(from_array(halves), Choices())) < 2100 < len(tensors.write(from_array(wide), Choices()))


def test_what_repeats_has_a_codebook_and_what_does_not_has_none() -> None:
    assert isinstance(from_array(np.ones(10, np.float32)), Coded)
    assert isinstance(from_array(np.arange(10, dtype=np.float32)), Floats)
    coded = from_array(np.array([0, -1, 2, 0, 2, -1, 0, 0], np.float32))
    assert isinstance(coded, Coded)
    assert coded.codebook.values.tolist() == [-1, 2]
    assert coded.codes.tolist() == [0, 1, 2, 0, 2, 1, 0, 0]


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        from_array(np.zeros(3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x09", "unknown form 9"),
        (bytes([TensorForm.INTEGERS]), "another type"),
        (bytes([TensorForm.FLOATS, 3]), "numbers of 3 bytes"),
        (bytes([TensorForm.SPARSE]) + count(5000), "codebook of 5000"),
        (bytes([TensorForm.SPARSE, 0, 2]) + count(10**9), "1000000000 gaps"),
        (bytes([TensorForm.DENSE, 0, 2]), "without a codebook"),
    ],
)
def test_damage_is_named(content: bytes, message: str) -> None:
    with pytest.raises(DamagedFileError, match=message):
        tensors.read(Reader(content), 4, integers=False)
