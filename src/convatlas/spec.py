"""The words of the atlas: papers and their claims, variants and families, layer tables and recipes.

Plain frozen data. Nothing here loads torch, so that the command can speak of networks without building one.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, Self

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
    """A row of a layer table, for one picture (batch 1)."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    """Trainable numbers, biases and normalisation included."""
    macs: int
    """Multiply-accumulates of convolutions and fully connected layers, biases not counted."""
    receptive_field: int
    """Pixels of the input, along one side, that one output sees; never more than the input has."""


@dataclass(frozen=True)
class Layers:
    """A layer table: what `measure.layers` returns and what a claim is counted from."""

    rows: tuple[Layer, ...]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Layer:
        return next(row for row in self.rows if row.name == name)

    @property
    def params(self) -> int:
        return sum(row.params for row in self.rows)

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)


SCALES: Mapping[str, int] = {"": 1, "thousand": 10**3, "million": 10**6, "billion": 10**9, "%": 1}


@dataclass(frozen=True)
class Claim:
    """A figure that a paper prints."""

    figure: str
    """What the figure counts, as "parameters" or "test error on MNIST"."""
    printed: str
    """The number as printed, with its unit out of `SCALES`."""
    source: str
    """Where in the paper: section, table or figure."""
    count: Callable[[Layers], int] | None = None
    """How the built network gives the figure; None for what only a training run can give."""
    about: int | None = None
    """For a round figure: what it is rounded to. Else the last printed digit says how precise it is."""
    sum: int | None = None
    """For an erratum: what the paper's own layer list adds up to."""

    @property
    def value(self) -> Decimal:
        number, _, unit = self.printed.partition(" ")
        return Decimal(number.replace(",", "")) * SCALES[unit]

    @property
    def last_digit(self) -> Decimal:
        """One unit of the last digit that means something."""
        if self.about is not None:
            return Decimal(self.about)
        number, _, unit = self.printed.partition(" ")
        _, _, decimals = number.partition(".")
        return Decimal(1).scaleb(-len(decimals)) * SCALES[unit]


class Verdict(enum.StrEnum):
    """What the built network says to a claim."""

    HOLDS = "holds"
    """Less than one unit of the last printed digit away."""
    ERRATUM = "erratum"
    """Further away, and equal to the sum of the paper's own layer list."""
    NOT_TESTED_HERE = "not tested here"
    """It takes a training run."""
    DISAGREES = "disagrees"
    """None of these: a bug of ours, and the tests fail."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a training picture, drawn anew for every picture in every epoch.

    All are parts of one affine map about the picture's centre, uniform in plus and minus what is given.
    """

    shift: float = 0.0
    """Translation in both directions, as a fraction of the side."""
    scale: float = 0.0
    """Size: 0.1 is from 90 % to 110 %."""
    squeeze: float = 0.0
    """Horizontal compression with vertical elongation, or the reverse: 0.1 is up to 10 %."""
    shear: float = 0.0
    """Horizontal shear: sideways shift for each unit of height."""
    rotation: float = 0.0
    """Degrees."""
    flip: bool = False
    """Mirror left and right, for half of the pictures."""


class Optimiser(enum.StrEnum):
    ADAMW = "adamw"
    """Loshchilov and Hutter 2019, with decay on the weights of layers, not on biases and norms."""
    LEVENBERG_MARQUARDT = "levenberg-marquardt"
    """The stochastic diagonal form of LeCun et al. 1998, Appendix C."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained. The learning rate is a function of the fraction of training done."""

    name: str
    optimiser: Optimiser
    lr: float
    batch_size: int
    epochs: int
    epochs_of: int | None = None
    """The number of pictures for which `epochs` is meant; smaller sets get more passes, as 1/cbrt(n)."""
    weight_decay: float = 0.0
    warm_up: float = 0.0
    """Fraction of training in which the rate climbs from 0 before it falls to 0 as a cosine."""
    schedule: tuple[tuple[int, float], ...] = ()
    """In place of the cosine: (passes, rate) in turn; the last rate stays."""
    augmentation: Augmentation = Augmentation()
    source: str = ""
    """Where a paper's own recipe is printed."""

    def epochs_for(self, num_pictures: int) -> int:
        """Passes over a training set of that many pictures."""
        if self.epochs_of is None or num_pictures >= self.epochs_of:
            return self.epochs
        return math.ceil(self.epochs * math.cbrt(self.epochs_of / num_pictures))


class Spec(Protocol):
    """What a network is: every channel count of it, as a frozen dataclass of the family."""

    @property
    def num_classes(self) -> int: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def resolution(self) -> int: ...
    @property
    def smallest_resolution(self) -> int: ...

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> Self:
        """The spec with every internal channel count times `width`, every repeated unit times `depth`."""
        ...


class Objective(Protocol):
    """What a network's outputs mean: the loss that trains them and the probabilities they stand for."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of outputs (batch, classes) against target probabilities (batch, classes)."""
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
    """The paper's own, where it prints one."""
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Family:
    name: str
    paper: Paper
    variants: tuple[Variant, ...]
