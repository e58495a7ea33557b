"""A topic and its statements: each has a statistic and a threshold that are set before it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.verdict import Measurement, Threshold


class NotTestable(Exception):  # noqa: N818  # an outcome, not an error
    """Raised by a measurement that cannot give a verdict at this budget; says why, and what it would need."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing that is said about a network, in a form that a measurement can test."""

    id: str
    text: str
    statistic: str
    """What is measured, with its unit."""
    threshold: Threshold
    measure: Callable[[Setting], Measurement]
    only_full: str = ""
    """Why the quick budget cannot test it, and what a test would need; empty where it can."""
    version: int = 1
    """Raised when `measure` comes to measure something else: results of an earlier version are measured again."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """What made a network famous, as statements that are tested."""

    id: str
    title: str
    summary: str
    """What the source says, in short."""
    source: str
    method: str
    """What is done here, and how that differs from the source."""
    limitations: str
    """What the results do not show."""
    minutes: tuple[float, float]
    """Approximate duration: quick on two cores, full on a GPU."""
    statements: tuple[Statement, ...]

    @property
    def command(self) -> str:
        """What measures it again."""
        return f"convatlas experiment run {self.id}"
