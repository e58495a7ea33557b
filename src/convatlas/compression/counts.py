"""Which numbers of a spec are the output channels of which layers.

No family states it. Every number of the spec is replaced by an equal one that knows its place, and the network is built
from these, without memory for its weights: what a layer has as its output channels says where it came from.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from torch import nn

from convatlas.measure.table import build_without_memory
from convatlas.spec import Spec

Place = tuple[str | int, ...]
"""Where a number stands in a spec: its field, then indices, as ("stages", 0, 1)."""


class PlacedNumber(int):
    """A number that knows its place in a spec. What is computed from it is an ordinary number again."""

    place: Place


def placed(place: Place, number: int) -> PlacedNumber:
    found = PlacedNumber(number)
    found.place = place
    return found


def output_channels(layer: nn.Module) -> int | None:
    """Of a convolution or a fully connected layer; None of anything else."""
    match layer:
        case nn.Conv2d():
            return layer.out_channels
        case nn.Linear():
            return layer.out_features
        case _:
            return None


def all_output_channels(network: nn.Module) -> dict[str, int]:
    """Of every convolution and fully connected layer, by its name."""
    found = {name: output_channels(layer) for name, layer in network.named_modules()}
    return {name: num for name, num in found.items() if num is not None}


def counted_layers(network: Callable[[Any], nn.Module], spec: Spec) -> dict[str, Place]:
    """The layers whose output channels are a number of the spec, and where in the spec it stands.

    Args:
        network: the class that is built from the spec.
    """
    channels = all_output_channels(build_without_memory(network, with_numbers(spec, placed)))
    return {name: num.place for name, num in channels.items() if isinstance(num, PlacedNumber)}


def with_changes(spec: Spec, changes: Mapping[Place, int]) -> Spec:
    """The spec with that added to the numbers at these places."""
    return with_numbers(spec, lambda place, number: number + changes.get(place, 0))


def with_numbers(spec: Spec, of: Callable[[Place, int], int]) -> Spec:
    """The spec with other numbers in place of a family's own: classes, input channels and resolution stay."""
    shared = {field.name for field in fields(Spec)}
    own = [field.name for field in fields(spec) if field.name not in shared]
    return replace(spec, **{name: _with_numbers(getattr(spec, name), (name,), of) for name in own})


def _with_numbers(value: Any, place: Place, of: Callable[[Place, int], int]) -> Any:
    match value:
        case bool() | enum.Enum():
            return value
        case int():
            return of(place, value)
        case tuple():
            parts = [_with_numbers(part, (*place, i), of) for i, part in enumerate(value)]
            # A named tuple takes its parts one by one.
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        case _:
            return value
