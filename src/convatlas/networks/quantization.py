"""Fake quantization: networks that compute in float32 with the numbers that few bits can represent.

Weights are integers times a step size, one for each output channel; inputs of layers are rounded to 256 values between
two bounds (Jacob et al. 2018). Batch normalization after a layer scales its channels and so its step sizes: folding it
changes no integer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from convatlas.networks.blocks import WeightedLayer, weighted_layers
from convatlas.spec.quantization import INPUT_BITS, LayerQuantization, Quantization

MAX_INPUT = (1 << INPUT_BITS) - 1
"""The largest input as an integer; the smallest is 0."""


def integer_range(bits: int) -> tuple[int, int]:
    """The smallest and the largest weight of so many bits, as integers."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def num_steps(layer: nn.Module) -> int:
    """How many step sizes a layer has: one for each output channel; one if it has a table of connections."""
    return 1 if isinstance(layer, WeightedLayer) else int(layer.get_parameter("weight").shape[0])


def expand(steps: Tensor, weights: Tensor) -> Tensor:
    """Step sizes (n,) with as many dimensions as the weights (n, ...)."""
    return steps.view(-1, *(1,) * (weights.dim() - 1))


def fake_quantize(weights: Tensor, steps: Tensor, bits: int) -> Tensor:
    """The nearest integers of so many bits times the step sizes (n,), for weights (n, ...)."""
    step = expand(steps, weights)
    # Adding 0 makes 0 of minus 0, which is not an integer.
    return ((weights / step).round().clamp(*integer_range(bits)) + 0.0) * step


@dataclass(frozen=True)
class FakeQuantize:
    """A forward pre-hook that rounds a layer's inputs to 8 bits (Jacob et al. 2018, section 3)."""

    low: float
    """At most 0."""
    high: float
    """At least 0."""

    @property
    def step(self) -> float:
        """The step size."""
        return (self.high - self.low) / MAX_INPUT

    @property
    def zero_point(self) -> int:
        """The integer of 0.0, which padding and ReLU give and which is exact."""
        return round(-self.low / self.step)

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        (x,) = inputs
        if not self.step:
            return (x,)
        integers = (x / self.step).round().add(self.zero_point).clamp(0, MAX_INPUT)
        rounded = (integers - self.zero_point) * self.step
        # Straight-through: between the bounds the gradient passes as if nothing were rounded.
        within = x.clamp(-self.zero_point * self.step, (MAX_INPUT - self.zero_point) * self.step)
        return (within + (rounded - within).detach(),)


def input_quantizer(layer: LayerQuantization) -> FakeQuantize | None:
    """What rounds a layer's inputs; None if they stay float32."""
    low, high = layer.input_low, layer.input_high
    return None if low is None or high is None else FakeQuantize(low, high)


def attach_fake_quant(network: nn.Module, quantization: Quantization) -> nn.Module:
    """The same network with step sizes in its layers, the buffers `steps`, and with rounded inputs."""
    for part in quantization:
        layer = network.get_submodule(part.name)
        layer.register_buffer("steps", torch.ones(num_steps(layer)))
        if (quantizer := input_quantizer(part)) is not None:
            layer.register_forward_pre_hook(quantizer)
    return network


def remove_fake_quant(network: nn.Module) -> nn.Module:
    """The same network with its weights as they are, without step sizes and with float inputs."""
    for _, layer in weighted_layers(network):
        if "steps" in layer._buffers:
            del layer._buffers["steps"]
        for key, hook in list(layer._forward_pre_hooks.items()):
            if isinstance(hook, FakeQuantize):
                del layer._forward_pre_hooks[key]
    return network


@torch.no_grad()
def integer_state(network: nn.Module, quantization: Quantization) -> dict[str, Tensor]:
    """The state of a fake-quantized network, with integers (as floats) in place of its quantized weights."""
    state = dict(network.state_dict())
    for part in quantization:
        weights, steps = state[f"{part.name}.weight"], state[f"{part.name}.steps"]
        state[f"{part.name}.weight"] = (weights / expand(steps, weights)).round() + 0.0
    return state


@torch.no_grad()
def load_integer_state(network: nn.Module, quantization: Quantization, state: dict[str, Tensor]) -> None:
    """Load what `integer_state` gave into a fake-quantized network. Its weights get the same bits as before."""
    network.load_state_dict(state)
    for part in quantization:
        layer = network.get_submodule(part.name)
        weights = layer.get_parameter("weight")
        weights.mul_(expand(layer.get_buffer("steps"), weights))


class LSQ(nn.Module):
    """A parametrization of weights whose step sizes are learned with them (Esser et al. 2020)."""

    def __init__(self, steps: Tensor, bits: int, num_weights: int) -> None:
        """
        Args:
            steps: the initial step sizes (n,).
            num_weights: of the layer.
        """
        super().__init__()
        self.steps = nn.Parameter(steps.clone())
        self.bits = bits
        self.gradient_scale = (num_weights / len(steps) * (2 ** (bits - 1) - 1)) ** -0.5
        """Keeps the gradient of a step size, a sum over its weights, in proportion to theirs (section 2.2)."""

    def forward(self, weights: Tensor) -> Tensor:
        # A step size that training made negative stands for its absolute value.
        own = self.steps.abs()
        scaled = own * self.gradient_scale
        steps = expand((own - scaled).detach() + scaled, weights)
        integers = (weights / steps).clamp(*integer_range(self.bits))
        return (integers + (integers.round() - integers).detach()) * steps


def attach_lsq(network: nn.Module, quantization: Quantization) -> None:
    """From now on, training updates float weights and the step sizes that they are rounded with."""
    for part in quantization:
        layer = network.get_submodule(part.name)
        weights = layer.get_parameter("weight")
        lsq = LSQ(layer.get_buffer("steps"), part.weight_bits, weights.numel())
        parametrize.register_parametrization(layer, "weight", lsq, unsafe=True)


@torch.no_grad()
def remove_lsq(network: nn.Module, quantization: Quantization) -> None:
    """Undo `attach_lsq`; the weights are the rounded ones."""
    for part in quantization:
        layer = network.get_submodule(part.name)
        lsq = layer.get_submodule("parametrizations.weight.0")
        assert isinstance(lsq, LSQ), "see attach_lsq"
        steps = lsq.steps.abs()
        layer.get_buffer("steps").copy_(steps)
        weights = fake_quantize(layer.get_parameter("parametrizations.weight.original"), steps, part.weight_bits)
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        layer.get_parameter("weight").copy_(weights)
