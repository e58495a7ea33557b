"""Responses against known standard stds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convatlas as ca
from convatlas.measure import response_stds


def test_a_response_is_the_std_after_normalization() -> None:
    first, second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    nn.init.constant_(second.weight, 0.25)
    network = nn.Sequential(first, nn.ReLU(), second).train()
    inputs = 5 + 3 * torch.randn(8, 2, 6, 6)
    responses = response_stds(network, inputs)
    assert [name for name, _ in responses] == ["0", "2"]
    # A batch that is normalized by its own statistics has the scale as its std.
    assert [std for _, std in responses] == pytest.approx([1.0, 0.25], rel=1e-2)


def test_it_is_the_std_of_values_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU()).eval()
    inputs = torch.randn(4, 1, 5, 5)
    ((name, std),) = response_stds(network, inputs)
    assert name == "1"
    assert std == pytest.approx(float(network[1](network[0](inputs)).detach().std()))


def test_layers_come_in_the_order_in_which_they_compute() -> None:
    network = ca.create("resnet20-cifar", width=0.25).eval()
    names = [name for name, _ in response_stds(network, torch.randn(2, 3, 32, 32))]
    assert len(names) == 19
    assert names[0].startswith("conv1")
    assert names[1].startswith("stages.0.0")
    assert names[-1].startswith("stages.2.2")


def test_the_network_stays_as_it_is() -> None:
    network = ca.create("resnet20-cifar", width=0.25).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    response_stds(network, torch.randn(2, 3, 32, 32))
    assert not any(module._forward_hooks for module in network.modules())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_hooks_are_gone_after_an_error() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    with pytest.raises(ValueError, match="4D"):
        response_stds(network, torch.randn(1, 2))
    assert not network[0]._forward_hooks
