"""The layer table, counted from the built network on the meta device: shapes without a number of memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.measure.receptive import ReceptiveFields
from convatlas.networks.blocks import Multiplying
from convatlas.spec import Layer, Layers, Spec


def layers(network: nn.Module) -> Layers:
    """The layer table of a network of the atlas: a row for each layer that computes, in order of execution.

    No weight is read or allocated. Parameters are all trainable numbers; multiply-accumulates (`macs`) those of
    convolutions and fully connected layers for one picture, biases not counted.
    """
    return layers_of(type(network), network.spec)  # type: ignore[arg-type]  # set by every network of the atlas


def layers_of(network: Callable[[Any], nn.Module], spec: Spec) -> Layers:
    """The layer table of the network class `network` for a spec, without building it in memory."""
    with torch.device("meta"):
        module = network(spec).eval()
        picture = torch.empty(1, spec.in_channels, spec.resolution, spec.resolution)
    rows: list[Layer] = []
    fields = ReceptiveFields(picture)

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
    with torch.no_grad(), fields:
        module(picture)
    return Layers(tuple(rows))


def num_multiplications(layer: nn.Module) -> int:
    """Multiplications at one position of a layer's output, over all channels: each weight is used once there."""
    match layer:
        case nn.Conv2d() | nn.Linear():
            return layer.weight.numel()
        case Multiplying():
            return layer.num_multiplications
        case _:
            return 0
