"""Claims: the figures that papers print, and the verdicts on them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from convatlas.spec.layers import Layers
from convatlas.spec.network import Scale

UNITS: Mapping[str, int] = {
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
    """A figure that a paper prints of a network."""

    figure: str
    """What is counted or measured, as "parameters" or "test error on MNIST"."""
    printed: str
    """The number as printed, with a unit that `UNITS` has, as "60 million"."""
    source: str
    """Where in the paper: section, table or figure."""
    count: Callable[[Layers], int | Fraction] | None = None
    """Computes the figure from the layer table of the built network; None if that takes training."""
    at: Scale = field(default_factory=Scale)
    """The scaling of the network that the figure is about."""
    about: int | None = None
    """What a round figure is rounded to, in its unit. None: its last printed digit says how precise it is."""
    sum: int | Fraction | None = None
    """What the layers add up to, where that is not the printed figure."""
    contradicts: str = ""
    """Where the paper itself prints the layers that add up to `sum`, as "Table 1". Empty: it prints them nowhere, or in
    a form that can be read in more than one way."""
    note: str = ""
    """How they add up to `sum`, and what is known of the difference."""

    @property
    def title(self) -> str:
        """The figure, and the scaling of the network if there is one."""
        return f"{self.figure}, {self.at}" if self.at != Scale() else self.figure

    @property
    def unit(self) -> str:
        """The unit of the printed number, as "million" or "MB"; empty if it has none."""
        return self.printed.partition(" ")[2]

    @property
    def value(self) -> Decimal:
        """The printed number without its unit, as 60,000,000 for "60 million"."""
        number, _, unit = self.printed.partition(" ")
        return Decimal(number.replace(",", "")) * UNITS[unit]

    @property
    def last_digit(self) -> Decimal:
        """The value of one unit in the last significant digit."""
        if self.about is not None:
            return Decimal(self.about) * UNITS[self.unit]
        number, _, unit = self.printed.partition(" ")
        _, _, decimals = number.partition(".")
        return Decimal(1).scaleb(-len(decimals)) * UNITS[unit]


def layers_deep(number: int, source: str) -> Claim:
    """The claim of how many layers with weights follow one another."""
    return Claim("layers with weights, in depth", str(number), source, lambda net: net.depth)


def top_errors(setting: str, top1: str, top5: str, source: str) -> tuple[Claim, Claim]:
    """Claims of the top-1 and the top-5 error, in percent."""
    return (
        Claim(f"top-1 error on {setting}", f"{top1} %", source),
        Claim(f"top-5 error on {setting}", f"{top5} %", source),
    )


def top_accuracies(setting: str, top1: str, top5: str, source: str) -> tuple[Claim, Claim]:
    """Claims of the top-1 and the top-5 accuracy, in percent."""
    return (
        Claim(f"top-1 accuracy on {setting}", f"{top1} %", source),
        Claim(f"top-5 accuracy on {setting}", f"{top5} %", source),
    )


class ClaimVerdict(enum.StrEnum):
    """Whether the built network agrees with a claim."""

    HOLDS = "holds"
    """The network's figure is less than one unit of the last printed digit away."""
    ERRATUM = "erratum"
    """It is further away, and equal to what the layers add up to that the paper itself prints."""
    NOT_REPRODUCED = "not reproduced by our reading"
    """It is further away, and rests on our reading of what the paper leaves open."""
    NOT_TESTED_HERE = "not tested here"
    """Only training can give the figure."""
    DISAGREES = "disagrees"
    """None of these: our network is wrong, and the tests fail."""
