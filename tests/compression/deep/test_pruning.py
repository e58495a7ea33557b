"""Which weights go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import convatlas as ca
from convatlas.compression.deep.pruning import LAMP, TwoFourSparsity, lamp_scores, sparsity, two_four_sparse
from convatlas.errors import UserError
from convatlas.networks.blocks import layer_weights


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return ca.create("mobilenet", width=0.25, resolution=32, num_classes=10)


def test_the_score_is_the_square_as_a_part_of_those_not_smaller() -> None:
    # Lee et al. 2021, equation 2.
    assert lamp_scores(torch.tensor([[1.0, -3.0], [2.0, 0.0]])).tolist() == [
        [pytest.approx(1 / 14), 1],
        [pytest.approx(4 / 13), 0],
    ]
    assert lamp_scores(torch.zeros(3)).tolist() == [0, 0, 0]


@given(st.floats(0.01, 100), st.integers(0, 100))
def test_a_layers_scale_does_not_count(scale: float, seed: int) -> None:
    weights = torch.randn(20, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(lamp_scores(scale * weights), lamp_scores(weights))


@pytest.mark.parametrize("target", [0.3, 0.9])
def test_the_smallest_of_each_layer_go(target: float) -> None:
    network, before = small_network(), small_network()
    LAMP(target).prune(network)
    old = layer_weights(before)
    for name, own in layer_weights(network).items():
        gone = own == 0
        assert torch.equal(own[~gone], old[name][~gone])
        # Of every layer something stays.
        assert not gone.all()
        if gone.any():
            assert old[name][gone].abs().max() <= old[name][~gone].abs().min()
    total = sum(own.numel() for own in old.values())
    assert sparsity(network) * total == pytest.approx(int(target * total), abs=3)


def test_large_layers_lose_more_than_small_ones() -> None:
    network = small_network()
    LAMP(0.8).prune(network)
    gone = {name: float((own == 0).float().mean()) for name, own in layer_weights(network).items()}
    sizes = {name: own.numel() for name, own in layer_weights(network).items()}
    assert gone[max(sizes, key=sizes.__getitem__)] > 0.8 > gone[min(sizes, key=sizes.__getitem__)]


def test_what_went_before_counts() -> None:
    network = small_network()
    for target in (0.5, 0.8):
        LAMP(target).prune(network)
        assert sparsity(network) == pytest.approx(target, abs=1e-3)
    before = {name: own.clone() for name, own in layer_weights(network).items()}
    LAMP(0.7).prune(network)
    assert all(torch.equal(own, before[name]) for name, own in layer_weights(network).items())


def test_gradually_more() -> None:
    whole = LAMP(0.9)
    assert whole.after(1.0) == whole
    parts = [whole.after(done / 4).sparsity for done in range(1, 5)]
    assert parts == pytest.approx([0.9 * (1 - (1 - done / 4) ** 3) for done in range(1, 5)])


def test_nothing_and_everything() -> None:
    network = small_network()
    LAMP(0.0).prune(network)
    assert sparsity(network) == 0
    LAMP(1.0).prune(network)
    assert sparsity(network) == 1


@pytest.mark.parametrize("target", [1.5, -0.1])
def test_out_of_range_is_refused(target: float) -> None:
    with pytest.raises(UserError, match=f"a sparsity of {target:g} is out of range; it must be from 0 to 1"):
        LAMP(target)


@given(st.integers(1, 5), st.integers(1, 12), st.sampled_from([1, 3]))
def test_two_of_every_four_neighboring_input_channels_go(num: int, channels: int, kernel: int) -> None:
    weights = torch.randn(num, channels, kernel, kernel, generator=torch.Generator().manual_seed(channels))
    found = two_four_sparse(weights)
    if channels % 4:
        assert torch.equal(found, weights)
        return
    fours = found.movedim(1, -1).reshape(-1, 4)
    before = weights.movedim(1, -1).reshape(-1, 4)
    assert ((fours != 0).sum(1) == 2).all()
    # The two that stay are the largest, as they were.
    assert torch.equal(fours.abs().sum(1), before.abs().sort(1).values[:, 2:].sum(1))
    assert torch.equal(found[found != 0], weights[found != 0])


def test_two_four_sparsity_is_half_of_a_layer_or_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(8, 4, 3), nn.Conv2d(4, 6, 1), nn.Linear(6, 8), nn.Linear(8, 3))
    TwoFourSparsity().after(0.1).prune(network)
    zeros = [float((layer.weight == 0).float().mean()) for layer in network]
    assert zeros == [0.5, 0.5, 0.0, 0.5]


def test_a_pruning_says_what_it_leaves() -> None:
    assert (str(LAMP(0.9)), str(TwoFourSparsity())) == ("90 % zeros (LAMP)", "2:4 sparsity")
