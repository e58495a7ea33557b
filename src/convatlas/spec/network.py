"""Specs: every number that a network is built from, and how they scale. Objectives: the loss of its outputs."""

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
    """A scaling of a network; the default leaves it as it is."""

    width: float = 1.0
    """Multiplier of every internal channel count."""
    depth: float = 1.0
    """Multiplier of the number of layers or blocks in every stage that repeats them."""
    resolution: int | None = None
    """Side of the square input, in pixels. None: the network's own."""
    phi: float = 0.0
    """EfficientNet's compound coefficient, see `Spec.compound`. The multipliers come on top of it, and `resolution`
    replaces the one that it gives."""

    def __str__(self) -> str:
        parts = [f"{name} {value:g}" for name, value in (("width", self.width), ("depth", self.depth)) if value != 1]
        parts += [f"phi {self.phi:g}"] if self.phi else []
        return ", ".join(parts + ([f"{self.resolution} px"] if self.resolution is not None else []))


MAX_RESOLUTION = 10_000
"""Pixels along a side. Far beyond it, the counts of a layer overflow 64 bits."""


@dataclass(frozen=True, kw_only=True)
class Spec(ABC):
    """Every number that a network is built from. A family's own spec adds its channel counts and options.

    Specs are frozen and can be compared. Scaled and pruned networks are the same class, built from another spec.

    Raises:
        UserError: no classes or input channels, or a resolution out of range.
    """

    num_classes: int = 1000
    in_channels: int = 3
    """1 for gray images, 3 for color."""
    resolution: int = 224
    """Side of the square input, in pixels."""

    small_limits: ClassVar[tuple[int, ...]] = ()
    """The resolutions, largest first, below which the network skips its first early downsampling, then its second."""
    small_stem: ClassVar[tuple[str, ...]] = ()
    """For each of these limits, in words, what the network does without."""

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
        if self.resolution > MAX_RESOLUTION:
            raise UserError(
                f"an image of {self.resolution} px is too large; the largest that works is {MAX_RESOLUTION} px"
            )

    @property
    def smallest_resolution(self) -> int:
        """The smallest resolution that works, in pixels."""
        return 28

    @property
    def small_below(self) -> int:
        """Below this resolution the network is built with a stem for small images; 0 if it has none."""
        return max(self.small_limits, default=0)

    @property
    def num_skipped_downsamplings(self) -> int:
        """How many early downsamplings (strides or poolings of 2) the network skips at this resolution."""
        return sum(self.resolution < limit for limit in self.small_limits)

    @abstractmethod
    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        """The spec of a scaled network.

        Args:
            width: multiplier of every internal channel count, rounded as the family's paper rounds; where it does not
                say, to whole numbers up to 16 and to multiples of 8 above.
            depth: multiplier of the layers or blocks that each stage repeats: ceil(depth * n) of n. Added ones are
                copies of the last of their stage, with as many input as output channels and stride 1.
            resolution: side of the square input, in pixels; by default as it is.

        Raises:
            UserError: a size that cannot work; the message says the nearest that does.
        """

    def at(self, scale: Scale) -> Self:
        """See `compound`."""
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
        """Compound scaling: depth * alpha^phi, width * beta^phi, resolution * gamma^phi (Tan and Le 2019, equation 3).

        The default constants are the paper's, found for EfficientNet-B0 such that alpha * beta^2 * gamma^2 is about 2:
        each step of phi doubles the multiply-accumulates.

        Args:
            width, depth: further multipliers.
            resolution: side of the square input, in pixels, in place of the compound one.

        Raises:
            UserError: a constant is not above 0, or a size cannot work.
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
    """The loss that trains a network, and the class probabilities that its outputs stand for."""

    def losses(self, outputs: Any, targets: Tensor) -> Tensor:
        """The loss of each image (batch,).

        Args:
            outputs: of the network in training mode: (batch, classes), or a tuple of such outputs, the network's own
                first, then those of its auxiliary classifiers.
            targets: probabilities of the classes (batch, classes).
        """
        ...

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Class probabilities (batch, classes) from outputs in evaluation mode (batch, classes)."""
        ...
