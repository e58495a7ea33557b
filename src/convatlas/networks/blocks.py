"""What more than one paper needs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.errors import UserError

Unit = TypeVar("Unit")


class WeightedLayer(nn.Module):
    """A layer of a family's own that multiplies inputs by weights, as a convolution does; `measure` counts it."""

    @property
    @abstractmethod
    def num_multiplications(self) -> int:
        """Multiplications at one position of the output, over all its channels."""


def weighted_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers whose learned weights multiply inputs, by name, auxiliary classifiers included."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | WeightedLayer) and isinstance(
            getattr(layer, "weight", None), nn.Parameter
        ):
            yield name, layer


def layer_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights of these layers, in the network itself, by their names in its state."""
    return {f"{name}.weight": layer.get_parameter("weight").data for name, layer in weighted_layers(network)}


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax and the negative logarithm of the right class's probability."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=1)


@dataclass(frozen=True)
class PlaceCode:
    """Mean squared error to +1 for the right class and -1 for the others (1989, section 4)."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, 2 * targets - 1, reduction="none").mean(1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        # Least squares estimates the mean of the target, 2p - 1; near 0 it bends instead of turning negative.
        p, bend = (outputs + 1) / 2, 0.01
        p = torch.where(p > bend, p, bend * (p / bend - 1).exp())
        return p / p.sum(1, keepdim=True)


class Conv2d(nn.Conv2d):
    """A convolution with the weights that let deep rectified networks learn: N(0, 2 / fan-in) (He et al. 2015a)."""

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ConvNorm(nn.Module):
    """A convolution without bias that halves the side or keeps it, and batch normalization (Ioffe and Szegedy 2015)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.norm(self.conv(x))
        return outputs


class ZeroPadded(nn.Module):
    """Every `stride`-th pixel, and zeros for the channels that are missing (He et al. 2015, option A)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels, self.missing, self.stride = in_channels, out_channels - in_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))


class LocalResponseNorm(nn.Module):
    """Each map divided by (k + alpha times the sum of squares over its `n` neighbors)^beta (Krizhevsky et al. 2012).

    Neighbors are of the same group. PyTorch's own divides alpha by n, knows no groups, is slower, and leaves an
    empty batch as it is.
    """

    def __init__(self, *, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, groups: int = 1) -> None:
        super().__init__()
        self.n, self.k, self.alpha, self.beta, self.groups = n, k, alpha, beta, groups

    def forward(self, x: Tensor) -> Tensor:
        if self.groups == 1:
            return self.normalized(x)
        return torch.cat([self.normalized(group) for group in x.chunk(self.groups, dim=1)], dim=1)

    def normalized(self, x: Tensor) -> Tensor:
        maps = x.shape[1]
        before = self.n // 2
        squares = F.pad(x.square(), (0, 0, 0, 0, before, self.n - 1 - before))
        neighbors = squares[:, :maps]
        for i in range(1, self.n):
            neighbors = neighbors + squares[:, i : i + maps]
        return x * (self.k + self.alpha * neighbors).pow(-self.beta)


class ConvReLU(nn.Module):
    """A convolution, batch normalization where there is one, and ReLU."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


def side(of: int, kernel: int, stride: int, padding: int = 0) -> int:
    """Of the map that a window of `kernel` at `stride` leaves of a map with the side `of`."""
    return (of + 2 * padding - kernel) // stride + 1


def round_channels(exact: float) -> int:
    """The nearest whole number up to 16, above it the nearest multiple of 8."""
    step = 1 if exact <= 16 else 8
    return step * math.floor(exact / step + 0.5)


MOST_WIDTH = 100
MOST_DEPTH = 1000
"""Beyond these the counts of a large network leave the range of PyTorch's numbers, or of anybody's patience."""


def check_width(width: float, channels: Iterable[int]) -> None:
    """What `width` must be for all of these channel counts.

    Raises:
        UserError: it is no such number; the message says the nearest that is.
    """
    if not math.isfinite(width):
        raise UserError(f"width {width:g} is no number to multiply by")
    if width > MOST_WIDTH:
        raise UserError(f"width {width:g} is too large; the largest width that works is {MOST_WIDTH}")
    narrowest = min(channels)
    if width * narrowest < 0.5 and width != 1.0:
        raise UserError(
            f"width {width:g} leaves nothing of a layer of {narrowest}; "
            f"the smallest width that works is {math.ceil(500 / narrowest) / 1000:g}"
        )


def scale_channels(channels: int, width: float, rounded: Callable[[float], int] = round_channels) -> int:
    """`channels` times `width`, rounded as the papers of the family do; most print nothing of it."""
    if width == 1.0:
        return channels
    scaled = rounded(channels * width)
    # Rounding must not make the narrower of two the wider.
    return min(scaled, channels) if width < 1 else max(scaled, channels)


def scale_units(units: int, depth: float) -> int:
    """ceil(depth x units): how many units a stage of `units` repeated ones has at that depth.

    Raises:
        UserError: depth is not a positive number, or too large.
    """
    if not (depth > 0 and math.isfinite(depth)):
        raise UserError(f"depth {depth:g} leaves no layer; it must be a number above 0")
    if depth > MOST_DEPTH:
        raise UserError(f"depth {depth:g} is too large; the largest depth that works is {MOST_DEPTH}")
    # 1e-9: 1.1 x 10 is eleven, whatever binary fractions say.
    return max(math.ceil(units * depth - 1e-9), 1)


def scale_stage(stage: tuple[Unit, ...], depth: float) -> tuple[Unit, ...]:
    """ceil(depth x n) units for a stage of n: its first, then copies of its last. None stay none."""
    num = scale_units(len(stage), depth) if stage else 0
    return stage[:num] + stage[-1:] * (num - len(stage))
