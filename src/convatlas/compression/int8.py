"""Networks of 8 bits as processors compute them: in whole numbers, through PyTorch's compiler and oneDNN.

The operations are those that torchao writes into a graph that it quantizes (`quantized_decomposed`). Inductor finds
them before a convolution or a fully connected layer, and puts one of 8 bits in the place of all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
import torch._inductor.config
import torch.ao.quantization.fx._decomposed  # the operations, which torchao and Inductor take from there too
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.networks.blocks import fold_batch_norm
from convatlas.networks.low_bits import HIGHEST_PLACE, FakeQuantize, input_quantizer, places_of, remove_fake_quant
from convatlas.spec.quantization import Quantization

operations = torch.ops.quantized_decomposed


class QuantizedLayer(nn.Module):
    """A layer whose inputs and weights are whole numbers of 8 bits."""

    codes: Tensor
    steps: Tensor
    zeros: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear, inputs: FakeQuantize, codes: Tensor, steps: Tensor) -> None:
        """
        Args:
            layer: whose bias, stride and the like it has.
            codes: its weights (out_channels, ...), in steps.
            steps: of the weights of each output channel (out_channels,).
        """
        super().__init__()
        self.inputs = inputs.step, inputs.zero, 0, HIGHEST_PLACE, torch.uint8
        self.register_buffer("codes", codes.to(torch.int8))
        self.register_buffer("steps", steps)
        self.register_buffer("zeros", torch.zeros(len(codes), dtype=torch.int64))
        self.bias = layer.bias
        self.multiply: Callable[[Tensor, Tensor, Tensor | None], Tensor] = F.linear
        if isinstance(layer, nn.Conv2d):
            self.multiply = partial(F.conv2d, stride=layer.stride, padding=layer.padding, groups=layer.groups)

    def forward(self, x: Tensor) -> Tensor:
        x = operations.dequantize_per_tensor(operations.quantize_per_tensor(x, *self.inputs), *self.inputs)
        weights = operations.dequantize_per_channel(self.codes, self.steps, self.zeros, 0, -128, 127, torch.int8)
        return self.multiply(x, weights, self.bias)


@torch.no_grad()
def to_int8(network: nn.Module, low_bits: Quantization) -> nn.Module:
    """A copy that answers the same but for rounding, in 8 bits once it is compiled, its batch normalization fold_batch_norm.

    What has no inputs of 8 bits, and layers of a family's own (`WeightedLayer`), stay at 32.
    """
    places = places_of(network, low_bits)
    copied = remove_fake_quant(fold_batch_norm(network))
    for bits in low_bits:
        layer, inputs = copied.get_submodule(bits.name), input_quantizer(bits)
        if inputs is None or not inputs.step or not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        codes = places[f"{bits.name}.weight"]
        # Folding multiplied the weights of a channel, and so their steps.
        rows, weights = codes.flatten(1), layer.weight.flatten(1)
        largest = rows.abs().argmax(1, keepdim=True)
        steps = weights.gather(1, largest) / rows.gather(1, largest)
        # A channel of zeros has none.
        steps = torch.where(steps.isfinite(), steps, 1.0)
        parent, _, name = bits.name.rpartition(".")
        setattr(copied.get_submodule(parent), name, QuantizedLayer(layer, inputs, codes, steps.squeeze(1)))
    return copied


@torch.no_grad()
def compiled(network: nn.Module, image: Tensor) -> Callable[[Tensor], Tensor]:
    """The network for images (batch, channels, height, width) like that one, to be called without gradients.

    Raises:
        RuntimeError: PyTorch cannot compile it here; without a compiler for C++ it compiles nothing.
    """
    # Whole numbers take the place of weights only where these are constants. The compiler warns of its own code.
    with torch._inductor.config.patch(freezing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False)
        answers(image)
    return answers
