"""Gradient norms against gradients by hand, and Jacobians against their known form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import convatlas as ca
from convatlas.measure import gradient_norms, jacobian, jacobian_product
from convatlas.measure.gradients import euclidean_norm


def test_norms_are_those_of_gradients_by_hand() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(4, 3), nn.Linear(3, 1)
    network = nn.Sequential(first, nn.Tanh(), second)
    inputs = torch.randn(5, 4)
    found = gradient_norms(network, lambda outputs: outputs.sum(), inputs)
    hidden = first(inputs)
    by_hand = (second.weight * (1 - hidden.tanh() ** 2)).detach()
    assert [name for name, _ in found] == ["0", "2"]
    assert [norm for _, norm in found] == pytest.approx([float(by_hand.norm()), math.sqrt(5)])


def test_the_network_stays_as_it_is() -> None:
    network = ca.create("lenet5-modern", num_classes=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        found = gradient_norms(network, lambda outputs: outputs.square().sum(), torch.randn(2, 1, 32, 32))
    assert all(norm > 0 for _, norm in found)
    assert all(value.grad is None for value in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_hooks_are_gone_after_an_error() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RuntimeError):
        gradient_norms(network, lambda outputs: outputs.sum(), torch.randn(1, 3))
    assert not network[0]._forward_hooks


def test_a_layer_that_does_not_reach_the_loss_has_norm_zero() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.idle(x)
            return self.used(x)

    assert gradient_norms(Half(), lambda outputs: outputs.sum(), torch.ones(4, 2)) == [("idle", 0.0), ("used", 2.0)]


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_a_norm_neither_underflows_nor_overflows(size: float) -> None:
    assert euclidean_norm(size * torch.tensor([3.0, 4.0], dtype=torch.double)) == pytest.approx(5 * size)
    assert euclidean_norm(torch.zeros(3)) == 0


def test_the_jacobian_of_a_matrix_is_the_matrix() -> None:
    weights = torch.randn(3, 2, 2)
    found = jacobian(lambda x: torch.einsum("oij,ij->o", weights, x), torch.randn(2, 2))
    torch.testing.assert_close(found, weights.reshape(3, 4))
    assert not found.requires_grad


def test_a_product_is_in_the_order_of_the_parts() -> None:
    first, second = torch.randn(3, 2), torch.randn(4, 3)
    torch.testing.assert_close(jacobian_product([first, second]), second @ first)
