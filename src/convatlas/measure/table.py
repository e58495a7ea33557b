"""The layer table, counted from the built network without memory for its weights.

The network is built from tensors that take no memory, and an empty batch of images runs through it on the CPU: every
layer gives its shapes and none computes. (PyTorch's meta device would do the same, but loads PyTorch's compiler for
the shapes, which takes longer than all the rest.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from convatlas.measure.depth import depth_of
from convatlas.measure.memory import float32_bytes, peak_activation_bytes
from convatlas.measure.receptive import ReceptiveField, receptive_fields
from convatlas.measure.trace import ShapeOnlyConvolutions, Trace, UncompiledMode
from convatlas.networks.blocks import WeightedLayer
from convatlas.spec import Layer, Layers, Spec


def layers(network: nn.Module) -> Layers:
    """The layer table of a network of the atlas: a row for each layer that computes, in order of execution.

    No weight is read or allocated. `params` counts trainable parameters. `macs` are the multiply-accumulates of
    convolutions and fully connected layers for one image, biases not counted.
    """
    return layers_of(type(network), network.spec)  # type: ignore[arg-type]  # set by every network of the atlas


# A training alone asks for it three times, and a list of all networks should find each again.
@lru_cache(maxsize=256)
# In the caller's inference mode, composite operations would arrive whole and could not be followed.
@torch.inference_mode(False)
def layers_of(network_class: Callable[[Any], nn.Module], spec: Spec) -> Layers:
    """The layer table of a network class for a spec, without allocating the network."""
    module, images = build_without_memory(network_class, spec), empty_batch(spec)
    with Trace() as trace:
        calls, outputs = record_layer_calls(module, images)
    fields = receptive_fields(images, trace.operations)
    rows = tuple(table_row(name, layer, output, fields[id(output)], spec.resolution) for name, layer, output in calls)
    all_params = sum(value.numel() for value in module.parameters() if value.requires_grad)
    return Layers(
        rows,
        training_only_params=all_params - sum(row.params for row in rows),
        peak_activation_bytes=peak_activation_bytes(images, trace.operations, outputs),
        depth=depth_of(images, trace.operations, [output for _, layer, output in calls if num_multiplications(layer)]),
    )


LayerCalls = list[tuple[str, nn.Module, Tensor]]
"""The layers that compute, in order of execution: (name, layer, output)."""


class Cost(NamedTuple):
    """What a network takes to be stored, and to be computed for one image."""

    params: int
    """Trainable parameters, without those of layers that only training uses."""
    macs: int
    """Multiply-accumulates for one image."""


# Networks with fewer channels, and the tables of claims, ask for the same again and again.
@lru_cache(maxsize=256)
@torch.inference_mode(False)
def cost_of(network_class: Callable[[Any], nn.Module], spec: Spec) -> Cost:
    """Parameters and MACs of `layers_of`, in a third of its time."""
    return total_cost(layer_calls(build_without_memory(network_class, spec), spec))


@torch.inference_mode(False)
def layer_calls(module: nn.Module, spec: Spec) -> LayerCalls:
    """The layers of a network with their outputs for an empty batch."""
    with ShapeOnlyConvolutions():
        return record_layer_calls(module, empty_batch(spec))[0]


def total_cost(calls: LayerCalls) -> Cost:
    return Cost(
        sum(num_params(layer) for _, layer, _ in calls),
        sum(num_macs(layer, output) for _, layer, output in calls),
    )


def table_row(name: str, layer: nn.Module, output: Tensor, field: ReceptiveField, resolution: int) -> Layer:
    shape = tuple(output.shape[1:])
    has_neighbors = any(side > 1 for side in shape[1:])
    return Layer(
        name=name,
        kind=kind(layer),
        output_shape=shape,
        params=num_params(layer),
        macs=num_macs(layer, output),
        activation_bytes=float32_bytes(output),
        receptive_field=min(field.size, resolution),
        stride=min(field.jump, resolution) if has_neighbors else resolution,
    )


def kind(layer: nn.Module) -> str:
    """The name of the layer's class in PyTorch, as "Conv2d"; of a layer that is none of PyTorch's, its own."""
    own = [base for base in type(layer).__mro__ if base.__module__ != parametrize.__name__]
    known = (base for base in own if base.__module__.startswith("torch.nn") and base is not nn.Module)
    return next(known, own[0]).__name__


def empty_batch(spec: Spec) -> Tensor:
    """An empty batch (0, channels, height, width)."""
    return torch.empty(0, spec.in_channels, spec.resolution, spec.resolution, device="cpu")


def record_layer_calls(module: nn.Module, images: Tensor) -> tuple[LayerCalls, Tensor]:
    """The layers of a network with their outputs for `images`, and the network's own output."""
    calls: LayerCalls = []

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, inputs, output: calls.append((name, layer, output))

    for name, layer in module.named_modules():
        if not layer._modules and layer is not module and not isinstance(layer, nn.Identity):
            layer.register_forward_hook(note(name))
    with torch.no_grad(), on_cpu():
        outputs = module(images)
    return calls, outputs


def on_cpu() -> AbstractContextManager[object]:
    """Create new tensors on the CPU, whatever the caller's default device is.

    The device context takes a fifth of the time of a layer table, so it is entered only where the default differs.
    """
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


class _WithoutMemory(UncompiledMode):
    """While active, new tensors are views of a single zero, and in-place operations on them do nothing."""

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


def build_without_memory(network_class: Callable[[Any], nn.Module], spec: Spec) -> nn.Module:
    """Build a network whose weights have shapes but take no memory, in evaluation mode."""
    with on_cpu(), _WithoutMemory():
        return network_class(spec).eval()


def num_params(layer: nn.Module) -> int:
    """Trainable numbers of a layer, without its children."""
    return sum(value.numel() for value in layer._parameters.values() if value is not None and value.requires_grad)


def num_macs(layer: nn.Module, output: Tensor) -> int:
    """Multiply-accumulates of a layer for one image; `output` is (batch, channels, ...)."""
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
