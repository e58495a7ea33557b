"""From measured values to a verdict: a threshold set beforehand, and the spread of repeated measurements."""

from __future__ import annotations

import enum
import math
import statistics
from dataclasses import dataclass

from convatlas.draw import Chart


class Verdict(enum.StrEnum):
    """Of a statement, or of a topic as a whole."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    NOT_TESTABLE = "not testable at this budget"


@dataclass(frozen=True)
class Threshold:
    """The closed interval in which a statistic must lie for its statement to be reproduced."""

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if self.low == self.high:
            return f"exactly {self.low:,.10g}"
        if self.high == math.inf:
            return f"at least {self.low:,.10g}"
        if self.low == -math.inf:
            return f"at most {self.high:,.10g}"
        return f"{self.low:,.10g} to {self.high:,.10g}"


def at_least(low: float) -> Threshold:
    return Threshold(low=low)


def at_most(high: float) -> Threshold:
    return Threshold(high=high)


def exactly(value: float) -> Threshold:
    return Threshold(value, value)


NUM_STANDARD_ERRORS = 2
"""How far the mean over several seeds must be from the threshold for a verdict, in standard errors."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What measuring a statement gave."""

    values: tuple[float, ...]
    """The statistic, one value for each seed or repetition; a single value where nothing is random."""
    figures: tuple[tuple[str, str], ...] = ()
    """Further figures worth reading: (name, formatted value)."""
    charts: tuple[Chart, ...] = ()
    note: str = ""
    """What a reader must know to interpret the values."""
    inconclusive: str = ""
    """Why the values give no verdict, and what a conclusive measurement would need; empty where they do."""

    @property
    def mean(self) -> float:
        """The mean of the values, which is held against the threshold."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the values; None for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def verdict(self, threshold: Threshold) -> tuple[Verdict, str]:
        """The verdict, and the reason where it is `NOT_TESTABLE`.

        It is `NOT_TESTABLE` where the mean plus or minus two standard errors reaches across the threshold.
        """
        if self.inconclusive:
            return Verdict.NOT_TESTABLE, self.inconclusive
        margin = NUM_STANDARD_ERRORS * (self.std or 0.0) / math.sqrt(len(self.values))
        inside = {value in threshold for value in (self.mean - margin, self.mean, self.mean + margin)}
        if len(inside) > 1:
            return Verdict.NOT_TESTABLE, (
                f"{len(self.values)} measurements are not enough: the mean ± {NUM_STANDARD_ERRORS} standard errors, "
                f"{self.mean - margin:.4g} to {self.mean + margin:.4g}, includes the threshold"
            )
        return (Verdict.REPRODUCED if inside == {True} else Verdict.NOT_REPRODUCED), ""
