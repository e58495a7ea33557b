"""From an estimate to a state: a threshold set beforehand, an interval, and a correction for many tests."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from convatlas.experiments.engine.estimate import CONFIDENCE, Basis, Estimate


class State(enum.StrEnum):
    """What a measurement says of a statement."""

    CONFIRMED = "confirmed"
    SMALLER = "same direction, smaller"
    INCONCLUSIVE = "inconclusive"
    CONTRADICTED = "contradicted"
    INVALID = "invalid"
    """A precondition failed: no effect is shown."""
    NOT_RUN = "not run"


class TopicState(enum.StrEnum):
    """What the central statements of a topic come to."""

    SUPPORTED = "supported"
    """All are confirmed."""
    PARTLY_SUPPORTED = "partly supported"
    """One or more are confirmed, none is contradicted."""
    DISPUTED = "disputed"
    """One or more are contradicted."""
    UNDECIDED = "undecided"

    @classmethod
    def of(cls, states: list[State]) -> TopicState:
        """From the states of a topic's central statements."""
        if State.CONTRADICTED in states:
            return cls.DISPUTED
        if states and all(state is State.CONFIRMED for state in states):
            return cls.SUPPORTED
        return cls.PARTLY_SUPPORTED if State.CONFIRMED in states else cls.UNDECIDED


@dataclass(frozen=True)
class Threshold:
    """The closed interval in which a figure must lie for its statement to be confirmed."""

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

    def p_value(self, estimate: Estimate) -> float:
        """Small where the estimate lies clearly inside: the larger one of both edges' one-sided p-values."""
        p_low = 0.0 if self.low == -math.inf else estimate.p_above(self.low)
        p_high = 0.0 if self.high == math.inf else 1 - estimate.p_above(self.high)
        return max(p_low, p_high)

    def is_missed_by(self, estimate: Estimate) -> bool:
        """Whether the whole interval lies outside, on one side."""
        return estimate.high < self.low or estimate.low > self.high

    def deciding(self, estimates: Mapping[str, Estimate]) -> str:
        """Which of several comparisons decides where all must lie inside: one that is missed, or else the one that is
        furthest from clearly inside. Such an intersection-union test needs no correction (Berger 1982)."""
        return max(estimates, key=lambda name: (self.is_missed_by(estimates[name]), self.p_value(estimates[name])))


def at_least(low: float) -> Threshold:
    return Threshold(low=low)


def at_most(high: float) -> Threshold:
    return Threshold(high=high)


def exactly(value: float) -> Threshold:
    return Threshold(value, value)


MAX_P = (1 - CONFIDENCE) / 2
"""Of a one-sided test: where it is met, the 95 % interval lies inside the threshold."""


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: the chance of one or more false confirmations among all stays below each (Holm 1979)."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        highest = max(highest, min((len(p_values) - rank) * p_values[name], 1.0))
        adjusted[name] = highest
    return adjusted


def levels(p_values: Mapping[str, float]) -> dict[str, float]:
    """What each p-value may be where Holm's turn comes to it: the lowest has to be the smallest."""
    ranked = sorted(p_values, key=p_values.__getitem__)
    return {name: MAX_P / (len(ranked) - rank) for rank, name in enumerate(ranked)}


def state_of(estimate: Estimate, threshold: Threshold, *, no_effect: float | None, p_value: float) -> State:
    """What an estimate says of a statement.

    Args:
        no_effect: the figure if there were no effect, beyond the threshold; None: the threshold's edge is where the
            statement begins to be wrong.
        p_value: of "it lies inside the threshold", adjusted where several statements are tested.
    """
    low, high = estimate.low, estimate.high
    confirmed = p_value <= MAX_P if estimate.basis is Basis.SEEDS else low in threshold and high in threshold
    if confirmed:
        return State.CONFIRMED
    wrong = threshold if no_effect is None else Threshold(min(threshold.low, no_effect), max(threshold.high, no_effect))
    if wrong.is_missed_by(estimate):
        return State.CONTRADICTED
    if no_effect is not None and (no_effect < low <= high < threshold.low or threshold.high < low <= high < no_effect):
        return State.SMALLER
    return State.INCONCLUSIVE
