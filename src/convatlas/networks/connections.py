"""Connection tables: layers whose maps read some maps of the layer below and not others (LeNet)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.networks.blocks import WeightedLayer, scale_channels

Table = tuple[tuple[int, ...], ...]
"""For each map of a layer, the maps of the layer below that it reads."""
Maps = int | Table
"""A layer's maps: so many that read every map below, or a table."""


def initialize(weight: Tensor, fan_in: Tensor) -> None:
    """Uniform in plus and minus 2.4 / fan-in (1989, section 4; 1998, Appendix A)."""
    with torch.no_grad():
        weight.uniform_(-2.4, 2.4).div_(fan_in)


def num_maps(maps: Maps) -> int:
    return maps if isinstance(maps, int) else len(maps)


def scale_maps(maps: Maps, width: float, below: int, below_scaled: int) -> Maps:
    """Maps times `width`; a table keeps its pattern, each new map reading what its nearest old one read."""
    if not num_maps(maps):
        return maps
    scaled = scale_channels(num_maps(maps), width)
    if isinstance(maps, int):
        return scaled
    rows = (maps[m * len(maps) // scaled] for m in range(scaled))
    resampled = (tuple(i for i in range(below_scaled) if i * below // below_scaled in row) for row in rows)
    return tuple(row or tuple(range(below_scaled)) for row in resampled)


class ConnectedConv2d(WeightedLayer):
    """A convolution whose maps each read the maps below that `maps` names, with weights for those alone.

    `units` is (1, 1) for a bias a map, or (height, width) of the output for a bias a unit, as in 1989.
    """

    pairs: Tensor

    def __init__(
        self,
        in_channels: int,
        maps: Maps,
        kernel_size: int,
        *,
        stride: int = 1,
        units: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        self.shape = (num_maps(maps), in_channels, kernel_size, kernel_size)
        self.stride = stride
        # What reads every map needs no list of pairs, however many there are.
        table = () if isinstance(maps, int) or all(len(row) == in_channels for row in maps) else maps
        self.complete = not table
        pairs = [m * in_channels + i for m, row in enumerate(table) for i in row]
        num_pairs = num_maps(maps) * in_channels if self.complete else len(pairs)
        self.weight = nn.Parameter(torch.empty(num_pairs, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(num_maps(maps), *units))
        self.register_buffer("pairs", torch.tensor(pairs), persistent=False)
        fan_in = [len(row) * kernel_size**2 for row in table for _ in row] or [in_channels * kernel_size**2]
        initialize(self.weight, torch.tensor(fan_in)[:, None, None])
        nn.init.zeros_(self.bias)

    @property
    def num_multiplications(self) -> int:
        return self.weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        out_channels, in_channels, *kernel = self.shape
        dense: Tensor = self.weight
        if not self.complete:
            dense = dense.new_zeros(out_channels * in_channels, *kernel).index_copy(0, self.pairs, dense)
        if tuple(x.shape[2:]) == tuple(kernel):
            # A single position, as in C5: the same product, which is faster as one of matrices.
            return F.linear(x.flatten(1), dense.view(out_channels, -1))[..., None, None] + self.bias
        return F.conv2d(x, dense.view(self.shape), stride=self.stride) + self.bias
