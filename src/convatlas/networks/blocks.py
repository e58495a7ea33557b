"""Layers, losses and scaling rules that more than one paper needs."""

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

T = TypeVar("T")
Activation = Callable[[Tensor], Tensor]


class WeightedLayer(nn.Module):
    """A layer with weights that is none of PyTorch's; `measure` counts its multiply-accumulates."""

    @property
    @abstractmethod
    def num_multiplications(self) -> int:
        """Multiplications at one position of the output, over all its channels."""


def weighted_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The names and modules of all layers with trained weights, those of auxiliary classifiers included.

    These are convolutions, fully connected layers and `WeightedLayer`s; normalization is not among them.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | WeightedLayer) and isinstance(
            getattr(layer, "weight", None), nn.Parameter
        ):
            yield name, layer


def layer_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weight tensors of `weighted_layers`, by their names in the state dict. They share memory with the network."""
    return {f"{name}.weight": layer.get_parameter("weight").data for name, layer in weighted_layers(network)}


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=1)


@dataclass(frozen=True)
class PlaceCode:
    """Mean squared error to +1 for the right class and -1 for the others (LeCun et al. 1989, section 4)."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, 2 * targets - 1, reduction="none").mean(1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        # Least squares estimates the mean of the target, 2p - 1. Below 1 % an exponential keeps p positive.
        p, lowest = (outputs + 1) / 2, 0.01
        # Without the clamp, exp overflows where it is not used, and its gradient is 0 times infinity.
        p = torch.where(p > lowest, p, lowest * (p.clamp(max=lowest) / lowest - 1).exp())
        return p / p.sum(1, keepdim=True)


class KaimingConv2d(nn.Conv2d):
    """A convolution with weights from N(0, 2 / fan-in), which keeps the scale of signals through ReLUs.

    He et al. 2015, "Delving deep into rectifiers". Biases are 0.
    """

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around images as TensorFlow's `same` padding puts them: of an odd number, one more right and below.

    (batch, channels, h, w), for a convolution with that odd kernel and stride.
    """
    nums = [max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:]]
    (top, bottom), (left, right) = ((num // 2, num - num // 2) for num in nums)
    return F.pad(x, (left, right, top, bottom))


class ConvNorm(nn.Module):
    """A convolution, then batch normalization (Ioffe and Szegedy 2015).

    (batch, in_channels, h, w) to (batch, out_channels, ceil(h / stride), ceil(w / stride)), for odd kernels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        eps: float = 1e-5,
        bias: bool = False,
        same_padding: bool = False,
    ) -> None:
        """
        Args:
            eps: what is added to the variance.
            bias: of the convolution, which the normalization makes useless; released networks may have it.
            same_padding: pad as TensorFlow does where the stride is not 1; if not, alike on all sides.
        """
        super().__init__()
        uneven = same_padding and stride > 1
        self.uneven = (kernel, stride) if uneven else None
        padding = 0 if uneven else kernel // 2
        self.conv = KaimingConv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.norm(self.conv(x if self.uneven is None else pad_same(x, *self.uneven)))
        return outputs


class ZeroPadded(nn.Module):
    """Every `stride`-th pixel, and zeros as further channels (option A of He et al. 2015, section 3.3).

    (batch, in_channels, h, w) to (batch, out_channels, ceil(h / stride), ceil(w / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels, self.missing, self.stride = in_channels, out_channels - in_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))


class LocalResponseNorm(nn.Module):
    """Divides each channel by (k + alpha * sum of squares over its `n` neighbors)^beta (Krizhevsky et al. 2012).

    Section 3.3. Neighbors lie in the same of `groups` equal parts of the channels. PyTorch's own layer divides alpha
    by n, knows no groups, is slower, and leaves an empty batch as it is.
    """

    def __init__(self, *, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, groups: int = 1) -> None:
        super().__init__()
        self.n, self.k, self.alpha, self.beta, self.groups = n, k, alpha, beta, groups

    def forward(self, x: Tensor) -> Tensor:
        if self.groups == 1:
            return self.normalize(x)
        return torch.cat([self.normalize(group) for group in x.chunk(self.groups, dim=1)], dim=1)

    def normalize(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        before = self.n // 2
        squares = F.pad(x.square(), (0, 0, 0, 0, before, self.n - 1 - before))
        neighbors = squares[:, :channels]
        for i in range(1, self.n):
            neighbors = neighbors + squares[:, i : i + channels]
        return x * (self.k + self.alpha * neighbors).pow(-self.beta)


class ConvReLU(nn.Module):
    """A convolution, batch normalization if given, and ReLU."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


def conv_output_size(size: int, kernel: int, stride: int, padding: int = 0) -> int:
    """The side of what a convolution or a pooling makes of an input with side `size`, in pixels."""
    return (size + 2 * padding - kernel) // stride + 1


def round_channels(exact: float) -> int:
    """The nearest whole number up to 16, above it the nearest multiple of 8."""
    step = 1 if exact <= 16 else 8
    return step * math.floor(exact / step + 0.5)


MAX_WIDTH = 100
MAX_DEPTH = 1000
"""Beyond these, the counts of a large network overflow 64 bits, or take hours to add up."""


def check_width(width: float, channels: Iterable[int]) -> None:
    """Check that a width multiplier leaves something of every one of these channel counts.

    Raises:
        UserError: it does not; the message says the nearest width that does.
    """
    if not math.isfinite(width):
        raise UserError(f"width {width:g} is not a number to multiply by")
    if width > MAX_WIDTH:
        raise UserError(f"width {width:g} is too large; the largest width that works is {MAX_WIDTH}")
    narrowest = min(channels)
    if width * narrowest < 0.5 and width != 1.0:
        raise UserError(
            f"width {width:g} leaves nothing of a layer of {narrowest}; "
            f"the smallest width that works is {math.ceil(500 / narrowest) / 1000:g}"
        )


def scale_channels(channels: int, width: float, rounded: Callable[[float], int] = round_channels) -> int:
    """`channels` times `width`, rounded as the family's papers round; most do not say how."""
    if width == 1.0:
        return channels
    scaled = rounded(channels * width)
    # Rounding must not make a layer wider at a width below 1, nor narrower above.
    return min(scaled, channels) if width < 1 else max(scaled, channels)


def scale_depth(num: int, depth: float) -> int:
    """ceil(depth * num): how many units a stage has that the paper gives `num`.

    Raises:
        UserError: depth is not a positive number, or too large.
    """
    if not (depth > 0 and math.isfinite(depth)):
        raise UserError(f"depth {depth:g} leaves no layer; it must be a number above 0")
    if depth > MAX_DEPTH:
        raise UserError(f"depth {depth:g} is too large; the largest depth that works is {MAX_DEPTH}")
    # 1e-9: 1.1 x 10 is eleven, whatever binary fractions say.
    return max(math.ceil(num * depth - 1e-9), 1)


def scale_stage(stage: tuple[T, ...], depth: float) -> tuple[T, ...]:
    """ceil(depth * n) units for a stage of n: its first ones, then copies of its last. An empty stage stays empty."""
    num = scale_depth(len(stage), depth) if stage else 0
    return stage[:num] + stage[-1:] * (num - len(stage))
