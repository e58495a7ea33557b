"""What more than one paper needs."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.errors import UserError


class Multiplying(nn.Module):
    """A layer of a family's own that multiplies inputs by weights, as a convolution does; `measure` counts it."""

    @property
    @abstractmethod
    def num_multiplications(self) -> int:
        """Multiplications at one position of the output, over all its channels."""


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax and the negative logarithm of the right class's probability."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=1)


@dataclass(frozen=True)
class PlaceCode:
    """Mean squared error to +1 for the right class and -1 for the others (1989, section 4)."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, 2 * targets - 1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        # Least squares estimates the mean of the target, 2p - 1; near 0 it bends instead of turning negative.
        p, bend = (outputs + 1) / 2, 0.01
        p = torch.where(p > bend, p, bend * (p / bend - 1).exp())
        return p / p.sum(1, keepdim=True)


def initialise(weight: Tensor, fan_in: Tensor) -> None:
    """Uniform in plus and minus 2.4 / fan-in (1989, section 4; 1998, Appendix A)."""
    with torch.no_grad():
        weight.uniform_(-2.4, 2.4).div_(fan_in)


def scale_channels(channels: int, width: float) -> int:
    """`channels` times `width`, at 16 or fewer a whole number, above a multiple of 8.

    Raises:
        UserError: nothing would be left; the message says the smallest width that leaves something.
    """
    if not math.isfinite(width):
        raise UserError(f"width {width:g} is no number to multiply by")
    if width == 1.0:
        return channels
    exact = channels * width
    step = 1 if exact <= 16 else 8
    scaled = step * math.floor(exact / step + 0.5)
    # Rounding must not make the narrower of two the wider.
    scaled = min(scaled, channels) if width < 1 else max(scaled, channels)
    if scaled < 1:
        raise UserError(
            f"width {width:g} leaves nothing of a layer of {channels}; "
            f"the smallest width that works is {math.ceil(500 / channels) / 1000:g}"
        )
    return scaled


def scale_units(units: int, depth: float) -> int:
    """ceil(depth x units): how many units a stage of `units` repeated ones has at that depth.

    Raises:
        UserError: depth is not a positive number.
    """
    if not (depth > 0 and math.isfinite(depth)):
        raise UserError(f"depth {depth:g} leaves no layer; it must be a number above 0")
    # 1e-9: 1.1 x 10 is eleven, whatever binary fractions say.
    return max(math.ceil(units * depth - 1e-9), 1)


def check_spec(*, num_classes: int, in_channels: int, resolution: int, smallest_resolution: int) -> None:
    """What every family's spec asks of its numbers.

    Raises:
        UserError: one of them cannot work; the message says the smallest that does.
    """
    if num_classes < 1:
        raise UserError(f"{num_classes} classes cannot be told apart; the smallest number that works is 1")
    if in_channels < 1:
        raise UserError(f"a picture has at least 1 channel, not {in_channels}")
    if resolution < smallest_resolution:
        raise UserError(
            f"a picture of {resolution} px is too small for this network; "
            f"the smallest that works is {smallest_resolution} px"
        )
