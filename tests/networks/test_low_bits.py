"""Few bits: what they can say, and that a network of them is one that every step of rounding agrees with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from convatlas import atlas
from convatlas.networks.low_bits import (
    LSQ,
    FakeQuantize,
    LayerBits,
    across,
    attach_fake_quant,
    attach_lsq,
    fake_quantize,
    remove_fake_quant,
    remove_lsq,
    weighted_layers,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@given(st.integers(2, 8), st.integers(0, 1000))
def test_weights_lie_on_as_many_steps_as_bits_can_say(bits: int, seed: int) -> None:
    torch.manual_seed(seed)
    weights, steps = torch.randn(3, 50), torch.rand(3) + 0.01
    found = fake_quantize(weights, steps, bits)
    places = (found / across(steps, found)).round()
    assert -(2 ** (bits - 1)) <= places.min() <= places.max() <= 2 ** (bits - 1) - 1
    # What was within reach is half a step away at most, and what lies on steps stays.
    within = (weights / across(steps, weights)).abs() <= 2 ** (bits - 1) - 1
    assert ((found - weights).abs()[within] <= 0.5001 * across(steps, weights).expand_as(weights)[within]).all()
    assert torch.equal(fake_quantize(found, steps, bits), found)


@given(st.floats(-10, 0), st.floats(0.01, 10), st.integers(0, 1000))
def test_inputs_are_rounded_to_256_steps_with_zero_among_them(lowest: float, highest: float, seed: int) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed)) * 10
    (found,) = FakeQuantize(lowest, highest)(nn.Identity(), (x,))
    assert len(found.unique()) <= 256
    step = (highest - lowest) / 255
    within = (x > lowest) & (x < highest)
    assert ((found - x).abs()[within] <= 1.01 * step).all()
    assert FakeQuantize(lowest, highest)(nn.Identity(), (torch.zeros(3),))[0].tolist() == [0, 0, 0]


def test_gradients_go_through_rounding_and_stop_at_the_bounds() -> None:
    x = torch.tensor([-2.0, 0.3, 0.7, 5.0], requires_grad=True)
    FakeQuantize(-1.0, 1.0)(nn.Identity(), (x,))[0].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_steps_get_the_gradient_of_esser() -> None:
    # Equation 3 of 2020: what lies within has the gradient of its rounding, what lies beyond that of the bound.
    weights = torch.tensor([[0.26, -0.74, 9.0, -9.0]])
    stepping = LSQ(torch.tensor([0.5]), 3, weights.numel())
    stepping(weights).sum().backward()
    assert stepping.steps.grad is not None
    expected = (1 - 0.52) + (-1 + 1.48) + 3 - 4
    assert float(stepping.steps.grad) == pytest.approx(expected * (4 * 3) ** -0.5, rel=1e-4)


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "googlenet", "resnet20-cifar", "mobilenet", "efficientnet-b0"])
def test_what_is_learned_is_what_is_settled(name: str) -> None:
    variant = atlas.find(name)
    width = 1.0 if name in ("lenet5", "resnet20-cifar") else 0.1
    spec = replace(variant.spec.scaled(width=width, resolution=variant.spec.smallest_resolution), num_classes=4)
    if name == "lenet5":
        spec = variant.spec
    torch.manual_seed(0)
    network = variant.network(spec)
    low_bits = tuple(LayerBits(name=part, weight=4, lowest=-3.0, highest=3.0) for part, _ in weighted_layers(network))
    attach_fake_quant(network, low_bits)
    for _, layer in weighted_layers(network):
        weights = layer.get_parameter("weight")
        layer.get_buffer("steps").fill_(float(weights.detach().abs().max()) / 7)
    names = list(network.state_dict())
    attach_lsq(network, low_bits)
    network.eval()
    images = torch.randn(2, spec.in_channels, spec.resolution, spec.resolution)
    with torch.no_grad():
        learning = network(images)
        remove_lsq(network, low_bits)
        settled = network(images)
    torch.testing.assert_close(learning, settled, rtol=1e-4, atol=1e-5)
    assert sorted(network.state_dict()) == sorted(names)
    for bits in low_bits:
        layer = network.get_submodule(bits.name)
        places = layer.get_parameter("weight") / across(layer.get_buffer("steps"), layer.get_parameter("weight"))
        torch.testing.assert_close(places, places.round(), rtol=0, atol=1e-3)
    assert remove_fake_quant(network).state_dict().keys() == variant.network(spec).state_dict().keys()
