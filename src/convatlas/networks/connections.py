"""Connection tables: convolutions whose channels each read only some of the input channels (LeNet)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.networks.blocks import WeightedLayer, scale_channels

Table = tuple[tuple[int, ...], ...]
"""For each output channel the indices of the input channels that it reads."""
Channels = int | Table
"""The output channels of a layer: a number, if each reads all input channels, or a table."""


def num_channels(channels: Channels) -> int:
    return channels if isinstance(channels, int) else len(channels)


def scale_connections(channels: Channels, width: float, in_channels: int, in_channels_scaled: int) -> Channels:
    """`channels` times `width`. A table keeps its pattern: a new channel reads what the nearest old one read.

    Args:
        in_channels: of the layer as it is.
        in_channels_scaled: of the scaled layer.
    """
    num = num_channels(channels)
    if not num:
        return channels
    scaled = scale_channels(num, width)
    if isinstance(channels, int):
        return scaled
    rows = (channels[m * num // scaled] for m in range(scaled))
    resampled = (
        tuple(i for i in range(in_channels_scaled) if i * in_channels // in_channels_scaled in row) for row in rows
    )
    return tuple(row or tuple(range(in_channels_scaled)) for row in resampled)


def initialize(weight: Tensor, fan_in: Tensor) -> None:
    """Uniform in plus and minus 2.4 / fan-in (LeCun et al. 1989, section 4; 1998, Appendix A)."""
    with torch.no_grad():
        weight.uniform_(-2.4, 2.4).div_(fan_in)


class ConnectedConv2d(WeightedLayer):
    """A convolution without padding whose output channels read the input channels that a table names.

    (batch, in_channels, h, w) to (batch, channels, (h - kernel_size) // stride + 1, ...). It has weights for the
    connections of the table only: (connections, kernel_size, kernel_size), row by row.

    Args:
        channels: output channels, or the table of what they read.
        bias_size: (1, 1) for one bias per channel; (height, width) of the output for one per unit, as in 1989.
    """

    pairs: Tensor

    def __init__(
        self,
        in_channels: int,
        channels: Channels,
        kernel_size: int,
        *,
        stride: int = 1,
        bias_size: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        out_channels = num_channels(channels)
        self.shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.stride = stride
        # Where every channel is read, no list of pairs is needed, however long it would be.
        table = () if isinstance(channels, int) or all(len(row) == in_channels for row in channels) else channels
        self.complete = not table
        pairs = [m * in_channels + i for m, row in enumerate(table) for i in row]
        num_pairs = out_channels * in_channels if self.complete else len(pairs)
        self.weight = nn.Parameter(torch.empty(num_pairs, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels, *bias_size))
        self.register_buffer("pairs", torch.tensor(pairs), persistent=False)
        fan_in = [len(row) * kernel_size**2 for row in table for _ in row] or [in_channels * kernel_size**2]
        initialize(self.weight, torch.tensor(fan_in)[:, None, None])
        nn.init.zeros_(self.bias)

    @property
    def num_multiplications(self) -> int:
        return self.weight.numel()

    def dense_weight(self) -> Tensor:
        """The weights of all pairs of channels (channels, in_channels, kernel_size, kernel_size), 0 where none is."""
        out_channels, in_channels, *kernel = self.shape
        dense: Tensor = self.weight
        if not self.complete:
            dense = dense.new_zeros(out_channels * in_channels, *kernel).index_copy(0, self.pairs, dense)
        return dense.view(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        dense = self.dense_weight()
        if x.shape[2:] == dense.shape[2:]:
            # A single position, as in C5: a product of matrices, which is faster.
            return F.linear(x.flatten(1), dense.flatten(1))[..., None, None] + self.bias
        return F.conv2d(x, dense, stride=self.stride) + self.bias
