"""What a network is: its spec, how a spec scales, and what the outputs mean."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from convatlas.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How a network is scaled: multipliers of its width and depth, and the side of its input."""

    width: float = 1.0
    depth: float = 1.0
    resolution: int | None = None
    """Pixels; None: the network's own."""
    phi: float = 0.0
    """EfficientNet's compound coefficient; see `Spec.compound`. The multipliers come on top, the resolution replaces
    the one that it gives."""

    def __str__(self) -> str:
        parts = [f"{name} {value:g}" for name, value in (("width", self.width), ("depth", self.depth)) if value != 1]
        parts += [f"phi {self.phi:g}"] if self.phi else []
        return ", ".join(parts + ([f"{self.resolution} px"] if self.resolution is not None else []))


MOST_PIXELS = 10_000
"""Along a side; far beyond it, counts leave the range of PyTorch's numbers."""


@dataclass(frozen=True, kw_only=True)
class Spec(ABC):
    """What a network is. A family's own spec adds every channel count of it."""

    num_classes: int = 1000
    in_channels: int = 3
    """1 for gray images, 3 for color."""
    resolution: int = 224
    """Side of the square input, in pixels."""

    small_limits: ClassVar[tuple[int, ...]] = ()
    """Resolutions under which the small-image stem leaves out one early halving of the side, and then another."""
    small_stem: ClassVar[tuple[str, ...]] = ()
    """What it leaves out under each."""

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise UserError(f"{self.num_classes} classes cannot be told apart; the smallest number that works is 1")
        if self.in_channels < 1:
            raise UserError(f"an image has at least 1 channel, not {self.in_channels}")
        if self.resolution < self.smallest_resolution:
            raise UserError(
                f"an image of {self.resolution} px is too small for this network; "
                f"the smallest that works is {self.smallest_resolution} px"
            )
        if self.resolution > MOST_PIXELS:
            raise UserError(
                f"an image of {self.resolution} px is too large; the largest that works is {MOST_PIXELS} px"
            )

    @property
    def smallest_resolution(self) -> int:
        return 28

    @property
    def small_below(self) -> int:
        """Under that resolution the network is built with its small-image stem; 0: it has none."""
        return max(self.small_limits, default=0)

    @property
    def num_skipped_downsamplings(self) -> int:
        """How many early halvings the small-image stem leaves out at this resolution."""
        return sum(self.resolution < limit for limit in self.small_limits)

    @abstractmethod
    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        """The spec with every internal channel count times `width`, every repeated unit times `depth`."""

    def at(self, scale: Scale) -> Self:
        return self.compound(scale.phi, width=scale.width, depth=scale.depth, resolution=scale.resolution)

    def compound(
        self,
        phi: float,
        alpha: float = 1.2,
        beta: float = 1.1,
        gamma: float = 1.15,
        *,
        width: float = 1.0,
        depth: float = 1.0,
        resolution: int | None = None,
    ) -> Self:
        """Depth times alpha^phi, width times beta^phi, resolution times gamma^phi (Tan and Le 2019, equation 3).

        The constants are the paper's, found on EfficientNet-B0 under alpha beta^2 gamma^2 = 2, about.

        Args:
            width, depth: multipliers on top.
            resolution: in place of the scaled one.

        Raises:
            UserError: a constant is not above 0, or the scale cannot work.
        """
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            if not (value > 0 and math.isfinite(value)):
                raise UserError(f"{name} {value:g} scales nothing; it must be a number above 0")
        try:
            factors = alpha**phi, beta**phi, gamma**phi
        except OverflowError:
            factors = math.inf, math.inf, math.inf
        if not all(map(math.isfinite, factors)):
            raise UserError(f"phi {phi:g} is out of range; the networks that people built have phi from 0 to 7")
        if resolution is None:
            resolution = math.floor(min(self.resolution * factors[2], 10**9) + 0.5)
        try:
            return self.scaled(width * factors[1], depth * factors[0], resolution)
        except UserError as error:
            if not phi:
                raise
            raise UserError(f"phi {phi:g} cannot work: {error}") from error


class Objective(Protocol):
    """What a network's outputs mean: the loss that trains them and the probabilities they stand for."""

    def losses(self, outputs: Any, targets: Tensor) -> Tensor:
        """Each image's loss (batch,) of what the network gives in training against target probabilities.

        Args:
            outputs: (batch, classes); with auxiliary heads, a tuple of such outputs, the network's own first.
            targets: (batch, classes).
        """
        ...

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Class probabilities (batch, classes) from outputs (batch, classes)."""
        ...
