"""A topic and its statements: each has a test bed, a figure and a threshold that are set before it is measured."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from convatlas.draw import Chart
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.estimate import Estimate
from convatlas.experiments.engine.verdict import Threshold


class Role(enum.StrEnum):
    """What a statement is for its topic."""

    CENTRAL = "central"
    """The topic's state rests on it."""
    COUNT = "count"
    """A figure that is counted from networks or follows by arithmetic. Counts are tallied, and prove no effect."""
    PERIPHERAL = "peripheral"
    """It belongs to the topic, whose state does not rest on it."""
    FOLKLORE = "folklore"
    """It is often said, and no paper of the topic says it."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What measuring a statement gave."""

    estimate: Estimate
    failed: str = ""
    """The precondition that was not met, and what would meet it; empty where all were. No effect is shown then."""
    figures: tuple[tuple[str, str], ...] = ()
    """Further figures worth reading: (name, formatted value)."""
    charts: tuple[Chart, ...] = ()
    note: str = ""
    """What a reader must know to interpret the figure."""
    answers: Answers | None = None
    """Every test image's prediction by every trained network, where the estimate rests on those."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing that is said about a network, in a form that a measurement can test."""

    id: str
    text: str
    statistic: str
    """What is measured, with its unit in words."""
    threshold: Threshold
    measure: Callable[[Setting], Measurement]
    role: Role = Role.CENTRAL
    unit: str = ""
    """What stands behind the figure: "%", "points"; empty where it has no unit."""
    paper: str = ""
    """The paper's own figure, with its place; empty where it prints none."""
    no_effect: float | None = None
    """The figure if there were no effect, where the threshold asks for more than that: in between lies "same direction,
    smaller"."""
    needs: Budget = Budget.QUICK
    """The smallest budget that can test it."""
    test_bed: str = ""
    """Data set, networks and epochs of the standard budget, in words."""
    arms: Callable[[Setting], Mapping[str, Arm]] | None = None
    """The networks that it trains; None: none."""
    max_training_error: float | None = None
    """The precondition, in percent: what the training error of the best of the compared networks must come to. None: it
    compares no trained networks, or has another."""
    prepare: Callable[[Path], None] = lambda runs: None
    """Makes data sets of its own in the folder of runs, or raises a `UserError` that says what is missing, and how to
    get it."""
    num_seeds: int | None = None
    """At standard, where it is another number than that of the topic."""
    priority: int = 1
    """The standard budget measures 1 first and 4 last."""
    minutes: float = 0.0
    """About how long it takes at standard, on two cores."""
    version: int = 1
    """Raised by hand when `measure` comes to measure something else: earlier results are measured again."""

    @property
    def is_learned(self) -> bool:
        """Whether it is about trained networks."""
        return self.arms is not None

    def why_not_at(self, budget: Budget) -> str:
        """Why that budget does not measure it; empty if it does."""
        if budget.allows(self.needs):
            return ""
        return f"needs {self.needs}, {self.minutes:g} min" if self.minutes else f"needs {self.needs}"


@dataclass(frozen=True, kw_only=True)
class Quoted:
    """What is said about these networks, and no measurement here can test."""

    text: str
    source: str
    """Who says it where; what the papers themselves say, where that is something else."""
    why: str
    """What a test would take."""


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
    statements: tuple[Statement, ...]
    minutes_quick: float
    """About how long the quick budget takes, on two cores."""
    minutes_full: float
    """About how long the full budget takes, on a GPU."""

    @property
    def minutes_standard(self) -> float:
        """About how long the standard budget takes, on two cores."""
        return self.minutes_quick + sum(statement.minutes for statement in self.statements)

    def command(self, budget: Budget) -> str:
        """What measures it."""
        return f"convatlas experiment run {self.id} --budget {budget}"
