"""Claims: the figures that papers print, and the verdicts on them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from convatlas.spec.layers import Layers
from convatlas.spec.network import Scale

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
    at: Scale = field(default_factory=Scale)
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
