"""k-means on a line, against what it should be, and networks with few values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import convatlas as ca
from convatlas.compression.deep.codebook import k_means, nearest, share_weights
from convatlas.compression.deep.pruning import LAMP
from convatlas.errors import UserError
from convatlas.networks.blocks import layer_weights

WEIGHTS = arrays(np.float32, st.integers(1, 200), elements=st.floats(-10, 10, width=32))


def test_clusters_are_found() -> None:
    weights = np.concatenate([center + np.array([-0.01, 0, 0.01]) for center in (-1, 0.2, 3)]).astype(np.float32)
    assert k_means(weights, 3) == pytest.approx([-1, 0.2, 3])


def test_centroids_are_initialized_in_even_steps() -> None:
    # Of one round each: 0 to 9 in steps of 3 around 0, 4.5 and 9.
    weights = np.array([0, 1, 2, 4, 5, 9], np.float32)
    assert k_means(weights, 3) == pytest.approx([1, 4.5, 9])


@given(WEIGHTS, st.integers(1, 20))
def test_each_value_is_the_mean_of_the_weights_nearest_to_it(weights: np.ndarray, num: int) -> None:
    values = k_means(weights, num)
    assert 1 <= len(values) <= num
    assert (np.diff(values) > 0).all()
    places = nearest(values, weights)
    distance = np.abs(weights - values[places])
    assert (distance <= np.abs(weights[:, None] - values).min(1) + 1e-6).all()
    if len(values) == 1:
        assert values[0] == pytest.approx(weights.astype(np.float64).mean(), abs=1e-5)


@given(WEIGHTS)
def test_more_values_are_no_worse_than_one(weights: np.ndarray) -> None:
    def error(num: int) -> float:
        values = k_means(weights, num)
        return float(np.square(weights - values[nearest(values, weights)], dtype=np.float64).sum())

    assert error(16) <= error(1) + 1e-6


@pytest.mark.parametrize("half_precision", [True, False])
def test_a_network_gets_so_many_values(half_precision: bool) -> None:
    network = ca.create("mobilenet", width=0.25, resolution=32, num_classes=10)
    LAMP(0.6).prune(network)
    before = {name: own.clone() for name, own in layer_weights(network).items()}
    share_weights(network, 4, half_precision=half_precision)
    for name, own in layer_weights(network).items():
        values = own.unique()
        assert len(values[values != 0]) <= 16
        assert torch.equal(own == 0, before[name] == 0)
        assert (own - before[name]).abs().max() < before[name].abs().max()
    exact = [torch.equal(value.half().float(), value) for value in network.state_dict().values() if value.dim()]
    assert all(exact) == half_precision


def test_numbers_beyond_float16_stay_float32() -> None:
    network = ca.create("resnet20-cifar", width=0.25)
    network.get_submodule("conv1.norm").running_var.fill_(1e6)
    share_weights(network, 5)
    assert network.get_submodule("conv1.norm").running_var.unique().tolist() == [1e6]


def test_a_small_layer_has_a_small_codebook() -> None:
    network = ca.create("lenet5-modern")
    share_weights(network, 8)
    first = network.get_submodule("c1").weight
    assert first.numel() == 150
    assert len(first.unique()) <= 37


@pytest.mark.parametrize("bits", [0, 13])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(UserError, match=f"a codebook of {bits} bits is out of range; it must be from 1 to 12"):
        share_weights(ca.create("lenet1"), bits)
