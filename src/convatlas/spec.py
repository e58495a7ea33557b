"""The words of the atlas: papers and their claims, variants and families, layer tables.

Plain frozen data. Nothing here loads torch, so that the command can speak of networks without building one.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from convatlas.errors import UserError
from convatlas.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Paper:
    authors: str
    title: str
    year: int
    venue: str
    url: str


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


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many times as wide and as deep a network is, and the side of its input in pixels."""

    width: float = 1.0
    depth: float = 1.0
    resolution: int | None = None
    """None: the network's own."""

    def __str__(self) -> str:
        parts = [f"{name} {value:g}" for name, value in (("width", self.width), ("depth", self.depth)) if value != 1]
        return ", ".join(parts + ([f"{self.resolution} px"] if self.resolution is not None else []))


SCALES: Mapping[str, int] = {
    "": 1,
    "%": 1,
    "times": 1,
    "K": 2**10,
    "MB": 2**20,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
}


@dataclass(frozen=True)
class Claim:
    """A figure that a paper prints."""

    figure: str
    """What the figure counts, as "parameters" or "test error on MNIST"."""
    printed: str
    """The number as printed, with its unit out of `SCALES`."""
    source: str
    """Where in the paper: section, table or figure."""
    count: Callable[[Layers], int | Fraction] | None = None
    """How the built network gives the figure; None for what only a training run can give."""
    at: Scale = Scale()
    """The scale of the network that the figure is of."""
    about: int | None = None
    """For a round figure: what it is rounded to. Else the last printed digit says how precise it is."""
    sum: int | Fraction | None = None
    """For an erratum: what the paper's own layer list adds up to."""
    note: str = ""
    """For an erratum: how the sum comes about."""

    @property
    def title(self) -> str:
        """What the figure counts, and at which scale of the network."""
        return f"{self.figure}, {self.at}" if self.at != Scale() else self.figure

    @property
    def unit(self) -> str:
        return self.printed.partition(" ")[2]

    @property
    def value(self) -> Decimal:
        number, _, unit = self.printed.partition(" ")
        return Decimal(number.replace(",", "")) * SCALES[unit]

    @property
    def last_digit(self) -> Decimal:
        """One unit of the last digit that means something."""
        if self.about is not None:
            return Decimal(self.about) * SCALES[self.unit]
        number, _, unit = self.printed.partition(" ")
        _, _, decimals = number.partition(".")
        return Decimal(1).scaleb(-len(decimals)) * SCALES[unit]


def top_errors(setting: str, top1: str, top5: str, source: str) -> tuple[Claim, Claim]:
    """The two errors, in percent, that papers print for ImageNet."""
    return (
        Claim(f"top-1 error on {setting}", f"{top1} %", source),
        Claim(f"top-5 error on {setting}", f"{top5} %", source),
    )


def top_accuracies(setting: str, top1: str, top5: str, source: str) -> tuple[Claim, Claim]:
    """The two accuracies, in percent, that papers print for ImageNet."""
    return (
        Claim(f"top-1 accuracy on {setting}", f"{top1} %", source),
        Claim(f"top-5 accuracy on {setting}", f"{top5} %", source),
    )


class ClaimVerdict(enum.StrEnum):
    """What the built network says to a claim."""

    HOLDS = "holds"
    """Less than one unit of the last printed digit away."""
    ERRATUM = "erratum"
    """Further away, and equal to the sum of the paper's own layer list."""
    NOT_TESTED_HERE = "not tested here"
    """It takes a training run."""
    DISAGREES = "disagrees"
    """None of these: a bug of ours, and the tests fail."""


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

    def mapped(self, of: Callable[[str, int], int]) -> Self:
        """The spec with other channel counts, layer by layer.

        Args:
            of: what becomes of a layer's count, from the layer's name in the network and the count. It is not asked
                for what is fixed by others, and by default for nothing.
        """
        return self

    def at(self, scale: Scale) -> Self:
        return self.scaled(scale.width, scale.depth, scale.resolution)

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


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of the atlas: one network, the paper that prints it and what the paper claims of it."""

    name: str
    summary: str
    paper: Paper
    network: Callable[[Any], nn.Module]
    """The class that is built from the spec. Its argument is the family's own spec class."""
    spec: Spec
    objective: Objective
    pixels: tuple[float, float] | None = None
    """What black and white become at the input; None: the training set's mean and deviation, to 0 and 1."""
    recipe: Recipe | None = None
    """The paper's own."""
    claims: tuple[Claim, ...] = ()

    @property
    def published(self) -> str:
        """The first result of training that the paper prints, in words; empty where it prints none."""
        results = (claim for claim in self.claims if claim.count is None)
        return next((f"{claim.printed} {claim.figure.removeprefix('test error ')}" for claim in results), "")


@dataclass(frozen=True, kw_only=True)
class Family:
    name: str
    paper: Paper
    variants: tuple[Variant, ...]
