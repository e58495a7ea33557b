"""The weights of a network that are pruned and shared."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.training.ties import multiplies


class Kind(enum.StrEnum):
    CONVOLUTION = "convolution"
    LINEAR = "linear"
    DEPTHWISE = "depthwise"
    """A filter a map: few weights, of which each counts."""


@dataclass(frozen=True)
class Layer:
    name: str
    weights: Tensor
    """In the network itself."""
    kind: Kind


def layers(network: nn.Module) -> Iterator[Layer]:
    """The layers whose weights multiply inputs, training-only ones included."""
    for name, module in network.named_modules():
        for part, value in module.named_parameters(prefix=name, recurse=False):
            if multiplies(part, value):
                yield Layer(part, value.data, kind_of(module, value))


def kind_of(module: nn.Module, weights: Tensor) -> Kind:
    if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
        return Kind.DEPTHWISE
    return Kind.LINEAR if weights.dim() == 2 else Kind.CONVOLUTION


def checked(what: str, values: dict[Kind, float], least: float, most: float) -> None:
    """
    Raises:
        UserError: a value is out of range.
    """
    for kind, value in values.items():
        if not least <= value <= most:
            raise UserError(f"{what} {value:g} of {kind} layers cannot work; it must be from {least:g} to {most:g}")
