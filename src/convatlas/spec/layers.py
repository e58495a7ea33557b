"""The layer table that `measure.layers` returns. Claims are counted from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A row of a layer table, for one image (batch 1)."""

    name: str
    """As PyTorch names the module, "stages.0.1.conv2"."""
    kind: str
    """The name of its class, as "Conv2d"."""
    output_shape: tuple[int, ...]
    """(channels, height, width) or (features,)."""
    params: int
    """Trainable parameters, those of biases and normalization included."""
    macs: int
    """Multiply-accumulates of convolutions and fully connected layers; biases are not counted."""
    activation_bytes: int
    """Size of the output, as 32-bit numbers."""
    receptive_field: int
    """Side of the part of the input that one output depends on, in pixels; at most the input's side."""
    stride: int
    """Pixels of the input between two neighboring outputs; the input's side where there is only one output."""


@dataclass(frozen=True)
class Layers:
    """A layer table for one image. It can be iterated, and indexed by the names of layers."""

    rows: tuple[Layer, ...]
    """In order of execution in evaluation mode."""
    training_only_params: int = 0
    """Trainable parameters of layers that run in training only, as GoogLeNet's auxiliary classifiers."""
    peak_activation_bytes: int = 0
    """The most memory that inference needs at once besides the weights, input included, as 32-bit numbers."""
    depth: int = 0
    """The most convolutions and fully connected layers on one path: 16 in VGG-16, 22 in GoogLeNet, 50 in ResNet-50."""

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Layer:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def part(self, name: str) -> Layers:
        """The rows of one module and all modules inside it, as "inception3.a"."""
        return Layers(tuple(row for row in self.rows if f"{row.name}.".startswith(f"{name}.")))

    def of_kind(self, kind: str) -> Layers:
        """The rows of one kind of layer, as "Conv2d"."""
        return Layers(tuple(row for row in self.rows if row.kind == kind))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def params(self) -> int:
        """Trainable parameters of all rows."""
        return sum(row.params for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all rows, for one image."""
        return sum(row.macs for row in self.rows)

    def weight_bytes(self, bits: int) -> int:
        """Bytes of all trainable parameters at `bits` bits each, rounded up."""
        return math.ceil(self.params * bits / 8)
