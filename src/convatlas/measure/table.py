"""The layer table, counted from the built network without memory for its weights.

The network is built on the meta device, and an empty batch runs through it on the CPU: every layer says its
shapes and none computes. (Running on the meta device too would load PyTorch's compiler for the shapes, which takes
longer than all the rest.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from convatlas.measure.memory import peak_activation_bytes, size
from convatlas.measure.receptive import Field, receptive_fields
from convatlas.measure.trace import Trace, UncompiledMode, Unweighted
from convatlas.networks.blocks import WeightedLayer
from convatlas.spec import Layer, Layers, Spec


def layers(network: nn.Module) -> Layers:
    """The layer table of a network of the atlas: a row for each layer that computes, in order of execution.

    No weight is read or allocated. Parameters are all trainable numbers; multiply-accumulates (`macs`) those of
    convolutions and fully connected layers for one image, biases not counted.
    """
    return layers_of(type(network), network.spec)  # type: ignore[arg-type]  # set by every network of the atlas


# Wherever the caller is: in inference mode operations come whole, and cannot be followed.
@torch.inference_mode(False)
def layers_of(network: Callable[[Any], nn.Module], spec: Spec) -> Layers:
    """The layer table of the network class `network` for a spec, without building it in memory."""
    module, images = weightless(network, spec), no_images(spec)
    with Trace() as trace:
        called, outputs = call(module, images)
    fields = receptive_fields(images, trace.operations)
    rows = tuple(row(name, layer, output, fields[id(output)], spec.resolution) for name, layer, output in called)
    everything = sum(value.numel() for value in module.parameters() if value.requires_grad)
    return Layers(
        rows,
        training_only_params=everything - sum(row.params for row in rows),
        peak_activation_bytes=peak_activation_bytes(images, trace.operations, outputs),
    )


Called = list[tuple[str, nn.Module, Tensor]]
"""The layers that compute, in order of execution: each with its name and its output."""


class Totals(NamedTuple):
    params: int
    macs: int


@torch.inference_mode(False)
def cost_of(network: Callable[[Any], nn.Module], spec: Spec) -> Totals:
    """The totals of `layers_of`, in a third of its time."""
    return total(called_by(weightless(network, spec), spec))


@torch.inference_mode(False)
def called_by(module: nn.Module, spec: Spec) -> Called:
    """The layers with their outputs for no images."""
    with Unweighted():
        return call(module, no_images(spec))[0]


def total(called: Called) -> Totals:
    return Totals(
        sum(num_params(layer) for _, layer, _ in called),
        sum(num_macs(layer, output) for _, layer, output in called),
    )


def row(name: str, layer: nn.Module, output: Tensor, field: Field, resolution: int) -> Layer:
    shape = tuple(output.shape[1:])
    many = any(places > 1 for places in shape[1:])
    return Layer(
        name=name,
        kind=kind(layer),
        output_shape=shape,
        params=num_params(layer),
        macs=num_macs(layer, output),
        activation_bytes=size(output),
        receptive_field=min(field.size, resolution),
        stride=min(field.jump, resolution) if many else resolution,
    )


def kind(layer: nn.Module) -> str:
    """The name of the layer's class in PyTorch, as "Conv2d"; of a layer that is none of PyTorch's, its own."""
    known = (base for base in type(layer).__mro__ if base.__module__.startswith("torch.nn") and base is not nn.Module)
    return next(known, type(layer)).__name__


def no_images(spec: Spec) -> Tensor:
    return torch.empty(0, spec.in_channels, spec.resolution, spec.resolution, device="cpu")


def call(module: nn.Module, images: Tensor) -> tuple[Called, Tensor]:
    """The layers with their outputs for `images`, and the network's own."""
    called: Called = []

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, inputs, output: called.append((name, layer, output))

    for name, layer in module.named_modules():
        if not layer._modules and layer is not module and not isinstance(layer, nn.Identity):
            layer.register_forward_hook(note(name))
    with torch.no_grad(), on_cpu():
        outputs = module(images)
    return called, outputs


def on_cpu() -> AbstractContextManager[object]:
    """Where new tensors lie, whatever the caller's default device; it takes a fifth of the time, so only if need be."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


class _Weightless(UncompiledMode):
    """While active new tensors are a single zero in memory, seen from all their places, and nothing fills them."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = torch.zeros((), device="cpu")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        op = func.overloadpacket
        if op in FACTORIES:
            return self.zero.expand(args[0])
        return args[0] if op.__name__.endswith("_") else func(*args, **(kwargs or {}))


FACTORIES = {torch.ops.aten.empty, torch.ops.aten.zeros, torch.ops.aten.ones}


def weightless(network: Callable[[Any], nn.Module], spec: Spec) -> nn.Module:
    """The network without memory for its weights, in evaluation mode."""
    with on_cpu(), _Weightless():
        return network(spec).eval()


def num_params(layer: nn.Module) -> int:
    return sum(value.numel() for value in layer._parameters.values() if value is not None and value.requires_grad)


def num_macs(layer: nn.Module, output: Tensor) -> int:
    return num_multiplications(layer) * math.prod(output.shape[2:])


def num_multiplications(layer: nn.Module) -> int:
    """Multiplications at one position of a layer's output, over all channels: each weight is used once there."""
    match layer:
        case nn.Conv2d() | nn.Linear():
            return layer.weight.numel()
        case WeightedLayer():
            return layer.num_multiplications
        case _:
            return 0
