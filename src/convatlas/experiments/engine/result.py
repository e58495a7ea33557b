"""Statements measured, and what a topic's results add up to."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path

import torch

from convatlas import data
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.request_key import key_of
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.verdict import State, TopicState, holm, levels, state_of
from convatlas.models.card import installed_versions
from convatlas.models.memory import release_memory


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """When and on what a statement was measured. Those of one result may come from several days and machines."""

    when: str
    """The day, as in 2026-11-28."""
    machine: dict[str, str]
    """Its kind: processor, cores, threads, gpu."""
    versions: dict[str, str]
    """Of Python and the libraries that decide numbers."""
    commit: str = ""
    """Of this package's source, as "0a88c2c" or "0a88c2c-dirty" if that was changed; empty where git does not know."""


def source_commit(package: Path) -> str:
    """The commit of a package's source, see `Conditions.commit`."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed package may lie within somebody's repository, whose commit is not its own.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("describe", "--always", "--dirty", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return ""


def current_conditions() -> Conditions:
    """Those of this process."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return Conditions(
        when=date.today().isoformat(),
        machine={
            "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
            "cores": str(os.cpu_count()),
            "threads": str(torch.get_num_threads()),
            "gpu": device,
        },
        versions=installed_versions(),
        commit=source_commit(Path(__file__).parent),
    )


@dataclass(frozen=True, kw_only=True)
class StatementResult:
    """A statement's measurement."""

    statement: Statement
    measurement: Measurement
    fingerprint: str
    """Of what was asked; see `fingerprint`."""
    seconds: float
    conditions: Conditions


@dataclass(frozen=True, kw_only=True)
class TopicResult:
    """The results of a topic's statements at one budget."""

    topic: Topic
    budget: Budget
    num_seeds: int
    results: tuple[StatementResult, ...]
    """Of the statements that were measured."""
    missing: dict[str, str]
    """Why the others were not, by their ids."""
    absent: dict[str, str] = field(default_factory=dict)
    """Of these, the ones whose images are not here and could not be downloaded, and why."""
    outdated: frozenset[str] = frozenset()
    """Of these, the ones that were measured when they asked something else."""

    def of(self, statement: Statement) -> StatementResult | None:
        """The statement's result; None where it was not measured."""
        return next((one for one in self.results if one.statement.id == statement.id), None)

    @cached_property
    def states(self) -> dict[str, State]:
        """The state of each statement, by its id.

        The topic's state rests on several central statements about trained networks, each of which chance may confirm:
        their p-values are adjusted to each other (Holm 1979). Those that were not measured yet count as well, so that
        none that is confirmed is lost by measuring more.
        """
        adjusted = holm(self._p_values)
        return {one.id: self._state(one, adjusted) for one in self.topic.statements}

    @cached_property
    def levels(self) -> dict[str, float]:
        """What the p-values of those tests may be."""
        return levels(self._p_values)

    @cached_property
    def _p_values(self) -> dict[str, float]:
        return {
            one.id: self._p_value(one) for one in self.topic.statements if one.is_learned and one.role is Role.CENTRAL
        }

    def _p_value(self, statement: Statement) -> float:
        result = self.of(statement)
        if result is None or result.measurement.failed:
            return 1.0
        return statement.threshold.p_value(result.measurement.estimate)

    def _state(self, statement: Statement, adjusted: dict[str, float]) -> State:
        result = self.of(statement)
        if result is None:
            return State.NOT_RUN
        if result.measurement.failed:
            return State.INVALID
        return state_of(
            result.measurement.estimate,
            statement.threshold,
            no_effect=statement.no_effect,
            p_value=adjusted.get(statement.id, self._p_value(statement)),
        )

    @cached_property
    def state(self) -> TopicState:
        """What the central statements come to."""
        return TopicState.of([self.states[one.id] for one in self.topic.statements if one.role is Role.CENTRAL])

    @property
    def counts(self) -> tuple[int, int]:
        """How many of the counted figures agree, and how many there are."""
        states = [self.states[one.id] for one in self.topic.statements if one.role is Role.COUNT]
        return states.count(State.CONFIRMED), len(states) - states.count(State.NOT_RUN)

    @property
    def seconds(self) -> float:
        """What measuring took, all statements together."""
        return sum(one.seconds for one in self.results)


def seeds_of(statement: Statement, budget: Budget, num_seeds: int) -> tuple[int, ...]:
    """The seeds with which a statement is measured."""
    own = statement.num_seeds if budget is Budget.STANDARD else None
    return tuple(range(own or num_seeds))


def arms_of(statement: Statement, setting: Setting) -> dict[str, Arm]:
    """The networks that a statement trains at a budget; none at one that does not measure it."""
    if statement.arms is None or not setting.budget.allows(statement.needs):
        return {}
    return dict(statement.arms(setting))


def fingerprint(statement: Statement, setting: Setting) -> str:
    """Of what a statement asks: its version, precondition and threshold, and its trainings with recipes and images.

    Neither its words nor the code are in it: a text may be improved under a result, and a refactoring costs no day. A
    statement that comes to measure something else raises its `version`.
    """
    arms = arms_of(statement, setting)
    # Of a folder that a statement makes for itself only the name is asked for: results are read anywhere.
    requests = [
        replace(request, data=data.portable_name(str(request.data)))
        for arm in arms.values()
        for request in arm.requests(setting.seeds, None)
    ]
    asked = {
        "id": statement.id,
        "version": statement.version,
        "threshold": [repr(edge) for edge in (statement.threshold.low, statement.threshold.high, statement.no_effect)],
        "precondition": statement.max_training_error,
        "budget": setting.budget,
        "seeds": setting.seeds,
        "requests": sorted(map(key_of, requests)),
        "rates": {name: arm.rates for name, arm in arms.items()},
        "data": {str(request.data): data.published_checksum(request.data) for request in requests},
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def measure(statement: Statement, setting: Setting) -> StatementResult:
    """Measure a statement."""
    begun = time.monotonic()
    measurement = statement.measure(setting)
    # The next measurement may start several processes.
    release_memory()
    return StatementResult(
        statement=statement,
        measurement=measurement,
        fingerprint=fingerprint(statement, setting),
        seconds=round(time.monotonic() - begun, 2),
        conditions=current_conditions(),
    )
