"""Loss surfaces of known shape: a bowl, a saddle, a plane."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from convatlas.measure import loss_surface, negative_curvature
from convatlas.measure.surface import random_direction

OFFSETS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)).eval()


def test_filters_of_a_direction_have_the_norms_of_those_of_the_weights() -> None:
    weights = torch.randn(5, 3, 2, 2)
    weights[2] = 0
    found = random_direction(weights, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.flatten(1).norm(dim=1), weights.flatten(1).norm(dim=1))
    assert not torch.allclose(found, weights)


def test_in_the_middle_is_the_loss_of_the_network_itself() -> None:
    net, inputs = network(), torch.randn(6, 2, 4, 4)

    def loss() -> float:
        return float(net(inputs).detach().square().mean())

    before, values = loss(), {name: value.clone() for name, value in net.state_dict().items()}
    surface = loss_surface(net, loss, OFFSETS)
    assert surface.shape == (5, 5)
    assert surface[2, 2] == pytest.approx(before, rel=1e-6)
    assert len(np.unique(surface)) == 25
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, values[name], rtol=0, atol=0)


def test_the_square_of_the_distance_is_a_bowl() -> None:
    net = network()
    weights = [value for value in net.parameters() if value.dim() > 1]
    trained = [value.detach().clone() for value in weights]

    def distance() -> float:
        return sum(float((value - own).square().sum()) for value, own in zip(weights, trained, strict=True))

    surface = loss_surface(net, distance, OFFSETS)
    total = sum(float(own.square().sum()) for own in trained)
    # Along an axis the offset is the distance, in norms of the weights: rows are y and columns x.
    assert surface[2] == pytest.approx([offset**2 * total for offset in OFFSETS], rel=1e-4, abs=1e-6)
    assert surface[:, 2] == pytest.approx([offset**2 * total for offset in OFFSETS], rel=1e-4, abs=1e-6)
    assert negative_curvature(surface) == 0


def test_normalization_and_biases_stay() -> None:
    net = network()
    kept = [value.detach().clone() for value in net.parameters() if value.dim() == 1]

    def moved() -> float:
        now = [value for value in net.parameters() if value.dim() == 1]
        return max(float((value - own).abs().max()) for value, own in zip(now, kept, strict=True))

    assert (loss_surface(net, moved, OFFSETS) == 0).all()


def test_another_seed_is_another_surface() -> None:
    net, inputs = network(), torch.randn(6, 2, 4, 4)

    def loss() -> float:
        return float(net(inputs).detach().square().mean())

    first, again, other = (loss_surface(net, loss, OFFSETS, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_weights_come_back_after_an_error() -> None:
    net = network()
    before = [value.detach().clone() for value in net.parameters()]

    def broken() -> float:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        loss_surface(net, broken, OFFSETS)
    for value, own in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close(value.detach(), own, rtol=0, atol=0)


def test_the_fraction_of_negative_second_differences() -> None:
    x, y = np.meshgrid(OFFSETS, OFFSETS)
    assert negative_curvature(1 + x**2 + y**2) == 0
    assert negative_curvature(5 - x**2 - y**2) == 1
    # A saddle: along one of two directions.
    assert negative_curvature(5 + x**2 - y**2) == 0.5
    # x**3 curves down left of the middle: at one of three points, in one of two directions.
    assert negative_curvature(5 + x**3) == pytest.approx(1 / 6)


def test_rounding_errors_are_not_curvature() -> None:
    flat = np.full((7, 7), 2.302585)
    noise = np.random.default_rng(0).normal(0, 1e-7, flat.shape)
    assert negative_curvature(flat + noise) == 0
    assert negative_curvature(flat + 1e4 * noise) > 0.3
