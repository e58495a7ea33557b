"""Quantized networks that compute in 8-bit integers, with oneDNN's kernels.

The layers call `onednn::qconv_pointwise` and `onednn::qlinear_pointwise`, operators of PyTorch's core that Inductor and
torchao lower quantized graphs to. So nothing here needs `torch.ao`, and no pattern of a graph decides whether a layer
computes in integers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from convatlas.compression.folding import fold_batch_norm
from convatlas.networks.quantization import (
    MAX_INPUT,
    FakeQuantize,
    input_quantizer,
    integer_state,
    remove_fake_quant,
)
from convatlas.spec.quantization import Quantization

FLOAT_OUTPUTS: tuple[object, ...] = (1.0, 0, torch.float32, "none", [], "")
"""The last arguments of oneDNN's operators: outputs have no step size and no zero point, and nothing is fused."""
PROBE = 64
"""Inputs and outputs of the layer that `has_int8_kernels` computes."""


class QuantizedLayer(nn.Module):
    """A layer with weights and inputs of 8-bit integers, and float outputs."""

    packed: Tensor
    """The weights as oneDNN arranges them."""
    steps: Tensor
    zero_points: Tensor
    bias: Tensor | None

    def __init__(self, inputs: FakeQuantize, packed: Tensor, steps: Tensor, bias: Tensor | None) -> None:
        """
        Args:
            inputs: how the inputs are rounded.
            steps: step sizes of the weights (out_channels,).
        """
        super().__init__()
        self.step, self.zero_point = inputs.step, inputs.zero_point
        self.register_buffer("packed", packed)
        self.register_buffer("steps", steps)
        self.register_buffer("zero_points", torch.zeros(len(steps), dtype=torch.int64))
        self.register_buffer("bias", None if bias is None else bias.detach())

    def input_codes(self, x: Tensor) -> Tensor:
        """The inputs as integers from 0 to 255."""
        codes = (x * (1 / self.step)).round() + self.zero_point
        return codes.clamp(0, MAX_INPUT).to(torch.uint8)


class QuantizedConv2d(QuantizedLayer):
    def __init__(
        self, layer: nn.Conv2d, inputs: FakeQuantize, codes: Tensor, steps: Tensor, input_shape: tuple[int, ...]
    ) -> None:
        """
        Args:
            layer: has the bias, stride, padding, dilation and groups.
            inputs: how the inputs are rounded.
            codes: the weights (out_channels, in_channels / groups, height, width), int8.
            steps: their step sizes (out_channels,).
            input_shape: (batch, channels, height, width) that the weights are laid out for; others may be slow.
        """
        window = list(layer.stride), list(layer.padding), list(layer.dilation), layer.groups
        packing = codes, steps, inputs.step, inputs.zero_point, *window, list(input_shape)
        packed = torch.ops.onednn.qconv_prepack(*packing)
        super().__init__(inputs, packed, steps, layer.bias)
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        quantized = self.input_codes(x), self.step, self.zero_point, self.packed, self.steps, self.zero_points
        outputs: Tensor = torch.ops.onednn.qconv_pointwise(*quantized, self.bias, *self.window, *FLOAT_OUTPUTS)
        return outputs


class QuantizedLinear(QuantizedLayer):
    def __init__(
        self, layer: nn.Linear, inputs: FakeQuantize, codes: Tensor, steps: Tensor, input_shape: tuple[int, ...]
    ) -> None:
        """
        Args:
            layer: has the bias.
            inputs: how the inputs are rounded.
            codes: the weights (out_features, in_features), int8.
            steps: their step sizes (out_features,).
            input_shape: (batch, in_features) that the weights are laid out for; others may be slow.
        """
        packed = torch.ops.onednn.qlinear_prepack(codes, list(input_shape))
        super().__init__(inputs, packed, steps, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        quantized = self.input_codes(x), self.step, self.zero_point, self.packed, self.steps, self.zero_points
        outputs: Tensor = torch.ops.onednn.qlinear_pointwise(*quantized, self.bias, *FLOAT_OUTPUTS)
        return outputs


@cache
def has_int8_kernels() -> bool:
    """Whether oneDNN's 8-bit kernels work here: on x86 CPUs without VNNI, sums of products overflow 16 bits."""
    with torch.no_grad():
        # The largest inputs and weights.
        largest = torch.full((PROBE, PROBE), 127, dtype=torch.int8)
        x = torch.full((1, PROBE), float(MAX_INPUT))
        try:
            layer = nn.Linear(PROBE, PROBE, bias=False)
            answers = QuantizedLinear(layer, FakeQuantize(0.0, MAX_INPUT), largest, torch.ones(PROBE), x.shape)(x)
        except (AttributeError, RuntimeError):
            # PyTorch was built without oneDNN.
            return False
        return bool((answers == PROBE * MAX_INPUT * 127).all())


@torch.no_grad()
def to_int8(network: nn.Module, quantization: Quantization, images: Tensor) -> nn.Module:
    """A copy with folded batch normalization whose quantized layers compute in 8-bit integers.

    It gives the same answers but for rounding. Layers with float inputs and the families' own layers (`WeightedLayer`)
    stay as they are.

    Args:
        network: with fake quantization.
        images: (batch, channels, height, width) as it will be called with.

    Raises:
        RuntimeError: this CPU has no 8-bit kernels that compute exactly.
    """
    if not has_int8_kernels():
        raise RuntimeError("this CPU has no exact 8-bit kernels; they need VNNI")
    integers = integer_state(network, quantization)
    copied = remove_fake_quant(fold_batch_norm(network))
    shapes = input_shapes(copied, images)
    for part in quantization:
        layer, inputs = copied.get_submodule(part.name), input_quantizer(part)
        # Auxiliary classifiers are not called.
        if inputs is None or not inputs.step or part.name not in shapes:
            continue
        codes = integers[f"{part.name}.weight"]
        # Folding multiplied the weights of a channel, and so their step size.
        rows, weights = codes.flatten(1), layer.get_parameter("weight").flatten(1)
        largest = rows.abs().argmax(1, keepdim=True)
        steps = weights.gather(1, largest) / rows.gather(1, largest)
        # A channel of zeros has none.
        steps = torch.where(steps.isfinite(), steps, 1.0).squeeze(1)
        parent, _, name = part.name.rpartition(".")
        parts = inputs, codes.to(torch.int8), steps, shapes[part.name]
        if isinstance(layer, nn.Conv2d):
            setattr(copied.get_submodule(parent), name, QuantizedConv2d(layer, *parts))
        elif isinstance(layer, nn.Linear):
            setattr(copied.get_submodule(parent), name, QuantizedLinear(layer, *parts))
    return copied


def input_shapes(network: nn.Module, images: Tensor) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs of convolutions and fully connected layers, by name."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, inputs: shapes.update({name: tuple(inputs[0].shape)})

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers]
    network(images)
    for hook in hooks:
        hook.remove()
    return shapes


@torch.no_grad()
def compiled(network: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """The network compiled for images of that shape (batch, channels, height, width), to be called without gradients.

    Raises:
        RuntimeError: PyTorch cannot compile it here; it needs a C++ compiler.
    """
    # It loads for a second.
    from torch._inductor import config

    # The weights of quantized layers must be constants. The compiler warns about its own code.
    with config.patch(freezing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False)
        answers(images)
    return answers
