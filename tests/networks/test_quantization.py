"""Fake quantization: what few bits can represent, and that a network keeps it through training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from convatlas import atlas
from convatlas.networks.blocks import weighted_layers
from convatlas.networks.quantization import (
    LSQ,
    FakeQuantize,
    attach_fake_quant,
    attach_lsq,
    expand,
    fake_quantize,
    input_quantizer,
    integer_state,
    load_integer_state,
    remove_fake_quant,
    remove_lsq,
)
from convatlas.spec.quantization import LayerQuantization

pytestmark = pytest.mark.usefixtures("one_thread")


@given(st.integers(2, 8), st.integers(0, 1000))
def test_weights_are_integers_of_so_many_bits_times_their_step_size(bits: int, seed: int) -> None:
    torch.manual_seed(seed)
    weights, steps = torch.randn(3, 50), torch.rand(3) + 0.01
    found = fake_quantize(weights, steps, bits)
    integers = (found / expand(steps, found)).round()
    assert -(2 ** (bits - 1)) <= integers.min() <= integers.max() <= 2 ** (bits - 1) - 1
    # What was within reach is half a step away at most, and what is rounded stays.
    within = (weights / expand(steps, weights)).abs() <= 2 ** (bits - 1) - 1
    assert ((found - weights).abs()[within] <= 0.5001 * expand(steps, weights).expand_as(weights)[within]).all()
    assert torch.equal(fake_quantize(found, steps, bits), found)


@given(st.floats(-10, 0), st.floats(0.01, 10), st.integers(0, 1000))
def test_inputs_are_rounded_to_256_values_with_zero_among_them(low: float, high: float, seed: int) -> None:
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed)) * 10
    (found,) = FakeQuantize(low, high)(nn.Identity(), (x,))
    assert len(found.unique()) <= 256
    step = (high - low) / 255
    within = (x > low) & (x < high)
    assert ((found - x).abs()[within] <= 1.01 * step).all()
    assert FakeQuantize(low, high)(nn.Identity(), (torch.zeros(3),))[0].tolist() == [0, 0, 0]


def test_gradients_go_through_rounding_and_stop_at_the_bounds() -> None:
    x = torch.tensor([-2.0, 0.3, 0.7, 5.0], requires_grad=True)
    FakeQuantize(-1.0, 1.0)(nn.Identity(), (x,))[0].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_step_sizes_get_the_gradient_of_esser() -> None:
    # Equation 3 of 2020: what lies within has the gradient of its rounding, what lies beyond that of the bound.
    weights = torch.tensor([[0.26, -0.74, 9.0, -9.0]])
    lsq = LSQ(torch.tensor([0.5]), 3, weights.numel())
    lsq(weights).sum().backward()
    assert lsq.steps.grad is not None
    expected = (1 - 0.52) + (-1 + 1.48) + 3 - 4
    assert float(lsq.steps.grad) == pytest.approx(expected * (4 * 3) ** -0.5, rel=1e-4)


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "googlenet", "resnet20-cifar", "mobilenet", "efficientnet-b0"])
def test_what_is_trained_is_what_is_kept(name: str) -> None:
    variant = atlas.find(name)
    width = 1.0 if name in ("lenet5", "resnet20-cifar") else 0.1
    spec = replace(variant.spec.scaled(width=width, resolution=variant.spec.smallest_resolution), num_classes=4)
    if name == "lenet5":
        spec = variant.spec
    torch.manual_seed(0)
    network = variant.network(spec)
    quantization = tuple(
        LayerQuantization(name=part, weight_bits=4, input_low=-3.0, input_high=3.0)
        for part, _ in weighted_layers(network)
    )
    attach_fake_quant(network, quantization)
    for _, layer in weighted_layers(network):
        weights = layer.get_parameter("weight")
        layer.get_buffer("steps").fill_(float(weights.detach().abs().max()) / 7)
    names = list(network.state_dict())
    attach_lsq(network, quantization)
    network.eval()
    images = torch.randn(2, spec.in_channels, spec.resolution, spec.resolution)
    with torch.no_grad():
        learning = network(images)
        remove_lsq(network, quantization)
        kept = network(images)
    torch.testing.assert_close(learning, kept, rtol=1e-4, atol=1e-5)
    assert sorted(network.state_dict()) == sorted(names)
    for part in quantization:
        layer = network.get_submodule(part.name)
        integers = layer.get_parameter("weight") / expand(layer.get_buffer("steps"), layer.get_parameter("weight"))
        torch.testing.assert_close(integers, integers.round(), rtol=0, atol=1e-3)
    assert remove_fake_quant(network).state_dict().keys() == variant.network(spec).state_dict().keys()


def test_the_integers_bring_the_weights_back() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.Linear(5, 2)]
    quantization = tuple(LayerQuantization(name=str(place), weight_bits=3) for place in range(len(layers)))
    network = attach_fake_quant(nn.Sequential(*layers), quantization)
    for layer in layers:
        layer.get_buffer("steps").uniform_(0.05, 0.1)
        layer.weight.data = fake_quantize(layer.weight.data, layer.get_buffer("steps"), 3)
    state = integer_state(network, quantization)
    assert {float(value) for name in ("0.weight", "1.weight") for value in state[name].unique()} <= set(range(-4, 4))
    other = attach_fake_quant(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(5, 2)), quantization)
    load_integer_state(other, quantization, state)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_layer_without_an_input_range_keeps_float_inputs() -> None:
    assert input_quantizer(LayerQuantization(name="fc", weight_bits=4)) is None
    ranged = LayerQuantization(name="fc", weight_bits=4, input_low=0.0, input_high=2.0)
    assert input_quantizer(ranged) == FakeQuantize(0.0, 2.0)
