"""The layer table, counted from the built network without memory for its weights.

The network is built on the meta device, and an empty batch runs through it on the CPU: every layer says its
shapes and none computes. (Running on the meta device too would load PyTorch's compiler for the shapes, which takes
longer than all the rest.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.measure.receptive import ReceptiveFields, UncompiledMode
from convatlas.networks.blocks import Multiplying
from convatlas.spec import Layer, Layers, Spec


def layers(network: nn.Module) -> Layers:
    """The layer table of a network of the atlas: a row for each layer that computes, in order of execution.

    No weight is read or allocated. Parameters are all trainable numbers; multiply-accumulates (`macs`) those of
    convolutions and fully connected layers for one picture, biases not counted.
    """
    return layers_of(type(network), network.spec)  # type: ignore[arg-type]  # set by every network of the atlas


@torch.inference_mode(False)  # Wherever the caller is: in that mode nothing would be followed.
def layers_of(network: Callable[[Any], nn.Module], spec: Spec) -> Layers:
    """The layer table of the network class `network` for a spec, without building it in memory."""
    module = weightless(network, spec)
    pictures = torch.empty(0, spec.in_channels, spec.resolution, spec.resolution, device="cpu")
    rows: list[Layer] = []
    fields = ReceptiveFields(pictures)

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shape = tuple(output.shape[1:])
            rows.append(
                Layer(
                    name=name,
                    kind=type(layer).__name__,
                    output_shape=shape,
                    params=sum(p.numel() for p in layer.parameters() if p.requires_grad),
                    macs=num_multiplications(layer) * math.prod(shape[1:]),
                    receptive_field=fields.of(output),
                )
            )

        return hook

    for name, layer in module.named_modules():
        if not any(True for _ in layer.children()) and layer is not module:
            layer.register_forward_hook(record(name))
    with torch.no_grad(), torch.device("cpu"), fields:
        module(pictures)
    return Layers(tuple(rows))


class _Unfilled(UncompiledMode):
    """While active nothing is filled: initialisation works in place, and these weights have no place."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func.overloadpacket.__name__.endswith("_") else func(*args, **(kwargs or {}))


def weightless(network: Callable[[Any], nn.Module], spec: Spec) -> nn.Module:
    """The network with every weight a single zero in memory, seen from all its places, in evaluation mode."""
    with torch.device("meta"), _Unfilled():  # type: ignore[no-untyped-call]
        module = network(spec)
    for layer in module.modules():
        for name, value in layer.named_parameters(recurse=False):
            setattr(layer, name, nn.Parameter(_one_zero(value), requires_grad=value.requires_grad))
        for name, buffer in layer.named_buffers(recurse=False):
            setattr(layer, name, _one_zero(buffer))
    return module.eval()


def _one_zero(value: Tensor) -> Tensor:
    return value.new_zeros((), device="cpu").expand(value.shape)


def num_multiplications(layer: nn.Module) -> int:
    """Multiplications at one position of a layer's output, over all channels: each weight is used once there."""
    match layer:
        case nn.Conv2d() | nn.Linear():
            return layer.weight.numel()
        case Multiplying():
            return layer.num_multiplications
        case _:
            return 0
