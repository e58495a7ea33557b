"""Networks of few bits, computed in 32: every weight, and every input of a layer, is a number that so few bits can say.

Weights lie on even steps, a step for each output channel, 0 among them; inputs on 256 even steps between two bounds
(Jacob et al. 2018). Batch normalization after a layer multiplies its channels, and so its steps: folding it changes no
code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from convatlas.networks.blocks import WeightedLayer, weighted_layers
from convatlas.spec.quantization import LayerQuantization, Quantization

INPUT_BITS = 8
HIGHEST_PLACE = (1 << INPUT_BITS) - 1
"""Of an input on its steps, from 0."""
FEWEST, MOST = 2, 8
"""Bits of a weight."""


def input_quantizer(layer: LayerQuantization) -> FakeQuantize | None:
    """What the layer's inputs become, where they have few bits too."""
    return (
        None if layer.input_low is None or layer.input_high is None else FakeQuantize(layer.input_low, layer.input_high)
    )


def num_steps(layer: nn.Module) -> int:
    """One for each output channel; one for all weights where a list of connections says which they belong to."""
    return 1 if isinstance(layer, WeightedLayer) else int(layer.get_parameter("weight").shape[0])


def across(steps: Tensor, weights: Tensor) -> Tensor:
    """Steps (n,), so that they go with weights (n, ...)."""
    return steps.view(-1, *(1,) * (weights.dim() - 1))


def fake_quantize(weights: Tensor, steps: Tensor, bits: int) -> Tensor:
    """The nearest weights (n, ...) on steps (n,)."""
    step = across(steps, weights)
    # Plus 0: there is no minus 0 among the steps.
    return ((weights / step).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) + 0.0) * step


@dataclass(frozen=True)
class FakeQuantize:
    """What an input becomes before a layer reads it."""

    lowest: float
    highest: float

    @property
    def step(self) -> float:
        return (self.highest - self.lowest) / HIGHEST_PLACE

    @property
    def zero(self) -> int:
        """The place of 0, which is one of the steps: padding and ReLU give it exactly."""
        return round(-self.lowest / self.step)

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        (x,) = inputs
        if not self.step:
            return (x,)
        places = (x / self.step).round().add(self.zero).clamp(0, HIGHEST_PLACE)
        rounded = (places - self.zero) * self.step
        # Within the bounds the gradient goes through as if nothing were rounded.
        within = x.clamp(-self.zero * self.step, (HIGHEST_PLACE - self.zero) * self.step)
        return (within + (rounded - within).detach(),)


def attach_fake_quant(network: nn.Module, low_bits: Quantization) -> nn.Module:
    """The same network, whose layers have steps and round their inputs."""
    for bits in low_bits:
        layer = network.get_submodule(bits.name)
        layer.register_buffer("steps", torch.ones(num_steps(layer)))
        if (rounded := input_quantizer(bits)) is not None:
            layer.register_forward_pre_hook(rounded)
    return network


def remove_fake_quant(network: nn.Module) -> nn.Module:
    """The same network with these weights, and no more than that."""
    for _, layer in weighted_layers(network):
        if "steps" in layer._buffers:
            del layer._buffers["steps"]
        for key, hook in list(layer._forward_pre_hooks.items()):
            if isinstance(hook, FakeQuantize):
                del layer._forward_pre_hooks[key]
    return network


@torch.no_grad()
def places_of(network: nn.Module, low_bits: Quantization) -> dict[str, Tensor]:
    """The state of an attach_fake_quant network, with the places of weights on their steps, whole numbers, in place of these."""
    state = dict(network.state_dict())
    for bits in low_bits:
        weights, steps = state[f"{bits.name}.weight"], state[f"{bits.name}.steps"]
        state[f"{bits.name}.weight"] = (weights / across(steps, weights)).round() + 0.0
    return state


@torch.no_grad()
def load_places(network: nn.Module, low_bits: Quantization, state: dict[str, Tensor]) -> None:
    """Give an attach_fake_quant network that state; its weights get the same bits as before."""
    network.load_state_dict(state)
    for bits in low_bits:
        layer = network.get_submodule(bits.name)
        weights = layer.get_parameter("weight")
        weights.mul_(across(layer.get_buffer("steps"), weights))


class LSQ(nn.Module):
    """Weights on steps that are learned with them (Esser et al. 2020)."""

    def __init__(self, steps: Tensor, bits: int, num_weights: int) -> None:
        super().__init__()
        self.steps = nn.Parameter(steps.clone())
        self.bits = bits
        self.gain = (num_weights / len(steps) * (2 ** (bits - 1) - 1)) ** -0.5
        """What keeps the gradient of a step, a sum over its weights, in proportion to theirs (section 2.2)."""

    def forward(self, weights: Tensor) -> Tensor:
        # A step that learned to be negative is one of the same length.
        own = self.steps.abs()
        scaled = own * self.gain
        steps = across((own - scaled).detach() + scaled, weights)
        lowest, highest = -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1
        places = (weights / steps).clamp(lowest, highest)
        return (places + (places.round() - places).detach()) * steps


def attach_lsq(network: nn.Module, low_bits: Quantization) -> None:
    """From now on weights learn beside what they are rounded to, and so do their steps."""
    for bits in low_bits:
        layer = network.get_submodule(bits.name)
        weights = layer.get_parameter("weight")
        stepping = LSQ(layer.get_buffer("steps"), bits.weight_bits, weights.numel())
        parametrize.register_parametrization(layer, "weight", stepping, unsafe=True)


@torch.no_grad()
def remove_lsq(network: nn.Module, low_bits: Quantization) -> None:
    """The end of that: the weights are what they were rounded to."""
    for bits in low_bits:
        layer = network.get_submodule(bits.name)
        stepping = layer.get_submodule("parametrizations.weight.0")
        assert isinstance(stepping, LSQ), "see attach_lsq"
        steps = stepping.steps.abs()
        layer.get_buffer("steps").copy_(steps)
        weights = fake_quantize(layer.get_parameter("parametrizations.weight.original"), steps, bits.weight_bits)
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        layer.get_parameter("weight").copy_(weights)
