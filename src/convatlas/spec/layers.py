"""The layer table: what `measure.layers` returns and what a claim is counted from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A row of a layer table, for one image (batch 1)."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    """Trainable numbers, biases and normalization included."""
    macs: int
    """Multiply-accumulates of convolutions and fully connected layers, biases not counted."""
    activation_bytes: int
    """Of the output, as 32-bit numbers."""
    receptive_field: int
    """Pixels of the input, along one side, that one output sees; never more than the input has."""
    stride: int
    """Pixels of the input between two neighboring outputs; the whole side where there is only one."""


@dataclass(frozen=True)
class Layers:
    """A layer table: what `measure.layers` returns and what a claim is counted from."""

    rows: tuple[Layer, ...]
    """In order of execution, as in an inference: without what only training uses."""
    training_only_params: int = 0
    """Trainable numbers of what only training uses, as GoogLeNet's auxiliary heads."""
    peak_activation_bytes: int = 0
    """The most that an inference holds at once beside the weights, its input included, as 32-bit numbers."""

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Layer:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def part(self, name: str) -> Layers:
        """The rows of one part of the network, as "inception3.a"."""
        return Layers(tuple(row for row in self.rows if f"{row.name}.".startswith(f"{name}.")))

    def of_kind(self, kind: str) -> Layers:
        """The rows of one kind, as "Conv2d"."""
        return Layers(tuple(row for row in self.rows if row.kind == kind))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def params(self) -> int:
        return sum(row.params for row in self.rows)

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    def weight_bytes(self, bits: int) -> int:
        """What the trainable numbers take in memory at `bits` bits each."""
        return math.ceil(self.params * bits / 8)
