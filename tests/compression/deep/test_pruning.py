"""Which weights go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import convatlas as ca
from convatlas.compression.deep.layers import Kind, layers
from convatlas.compression.deep.pruning import Pruning, Threshold, prune_weights, sparsity, two_in_four
from convatlas.errors import UserError


def little() -> nn.Module:
    torch.manual_seed(0)
    return ca.create("mobilenet", width=0.25, resolution=32, num_classes=10)


def test_the_smallest_of_each_layer_go() -> None:
    network, before = little(), little()
    prune_weights(network, Pruning(convolution=0.6, linear=0.9))
    for layer, old in zip(layers(network), layers(before), strict=True):
        part = {Kind.CONVOLUTION: 0.6, Kind.LINEAR: 0.9, Kind.DEPTHWISE: 0.0}[layer.kind]
        gone = layer.weights == 0
        assert int(gone.sum()) == int(part * gone.numel())
        assert torch.equal(layer.weights[~gone], old.weights[~gone])
        if gone.any():
            assert old.weights[gone].abs().max() <= old.weights[~gone].abs().min()


def test_by_deviation_as_in_2015() -> None:
    network, before = little(), little()
    prune_weights(network, Pruning(convolution=0.5, linear=1.0, by=Threshold.DEVIATION))
    for layer, old in zip(layers(network), layers(before), strict=True):
        much = {Kind.CONVOLUTION: 0.5, Kind.LINEAR: 1.0, Kind.DEPTHWISE: 0.0}[layer.kind]
        limit = much * old.weights.std(correction=0)
        assert torch.equal(layer.weights == 0, (old.weights.abs() <= limit) & (much > 0))


def test_what_went_before_counts() -> None:
    once, twice = little(), little()
    prune_weights(once, Pruning(convolution=0.8, linear=0.8))
    for part in (0.5, 0.8):
        prune_weights(twice, Pruning(convolution=part, linear=part))
    assert all(torch.equal(one.weights, two.weights) for one, two in zip(layers(once), layers(twice), strict=True))


def test_gradually_more() -> None:
    whole = Pruning(convolution=0.6, linear=0.9, depthwise=0.1)
    assert whole.part(1.0) == whole
    parts = [whole.part(done / 4).linear for done in range(1, 5)]
    assert parts == pytest.approx([0.9 * (1 - (1 - done / 4) ** 3) for done in range(1, 5)])


def test_nothing_and_everything() -> None:
    network = little()
    prune_weights(network, Pruning(convolution=0, linear=0))
    assert sparsity(network) == 0
    prune_weights(network, Pruning(convolution=1, linear=1, depthwise=1))
    assert sparsity(network) == 1
    prune_weights(network, Pruning(convolution=3, linear=3, by=Threshold.DEVIATION))
    assert sparsity(network) == 1


@pytest.mark.parametrize(("by", "much"), [(Threshold.SHARE, 1.5), (Threshold.SHARE, -0.1), (Threshold.DEVIATION, 11)])
def test_out_of_range_is_refused(by: Threshold, much: float) -> None:
    with pytest.raises(UserError, match=f"a {by} {much:g} of linear layers cannot work; it must be from 0 to"):
        Pruning(convolution=0.5, linear=much, by=by)


@given(st.integers(1, 5), st.integers(1, 12), st.sampled_from([1, 3]))
def test_two_of_every_four_neighbouring_maps_go(num: int, maps: int, kernel: int) -> None:
    weights = torch.randn(num, maps, kernel, kernel, generator=torch.Generator().manual_seed(maps))
    found = two_in_four(weights)
    if maps % 4:
        assert torch.equal(found, weights)
        return
    fours = found.movedim(1, -1).reshape(-1, 4)
    before = weights.movedim(1, -1).reshape(-1, 4)
    assert ((fours != 0).sum(1) == 2).all()
    # The two that stay are the largest, as they were.
    assert torch.equal(fours.abs().sum(1), before.abs().sort(1).values[:, 2:].sum(1))
    assert torch.equal(found[found != 0], weights[found != 0])


def test_two_in_four_is_half_of_a_layer_or_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(8, 4, 3), nn.Conv2d(4, 6, 1), nn.Linear(6, 8), nn.Linear(8, 3))
    prune_weights(network, Pruning(convolution=0.5, linear=0.5, by=Threshold.TWO_IN_FOUR).part(0.1))
    zeros = [float((layer.weight == 0).float().mean()) for layer in network]
    assert zeros == [0.5, 0.5, 0.0, 0.5]
    with pytest.raises(UserError, match=r"a 2:4 0\.9 of linear layers cannot work"):
        Pruning(convolution=0.5, linear=0.9, by=Threshold.TWO_IN_FOUR)
