"""Which weights go."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convatlas as ca
from convatlas.compression.deep.layers import Kind, layers
from convatlas.compression.deep.pruning import Pruning, Threshold, prune_weights, sparsity
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
