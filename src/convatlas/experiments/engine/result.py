"""Statements measured, and what a topic's results add up to."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import sys
import time
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import torch

from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.statement import NotTestable, Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, Verdict
from convatlas.formatting import plural
from convatlas.models.card import installed_versions


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """When and on what a statement was measured. Those of one result may come from several days and machines."""

    when: str
    """The day, as in 2026-11-28."""
    machine: dict[str, str]
    """Its kind: processor, cores, threads, gpu."""
    versions: dict[str, str]
    """Of Python and the libraries that decide numbers."""


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
    )


@dataclass(frozen=True, kw_only=True)
class StatementResult:
    """A statement's measurement and verdict."""

    statement: Statement
    verdict: Verdict
    reason: str
    """Why there is no verdict, where there is none."""
    measurement: Measurement | None
    """None where nothing was measured."""
    seconds: float
    conditions: Conditions


@dataclass(frozen=True, kw_only=True)
class TopicResult:
    """The results of a topic's statements at one budget."""

    topic: Topic
    budget: Budget
    num_seeds: int
    statements: tuple[StatementResult, ...]

    @cached_property
    def verdict(self) -> Verdict:
        """The worst verdict among the statements that were tested."""
        verdicts = {one.verdict for one in self.statements}
        for verdict in (Verdict.NOT_REPRODUCED, Verdict.REPRODUCED):
            if verdict in verdicts:
                return verdict
        return Verdict.NOT_TESTABLE

    @property
    def coverage(self) -> str:
        """How many statements the verdict rests on."""
        num_tested = sum(one.verdict is not Verdict.NOT_TESTABLE for one in self.statements)
        return f"{num_tested} of {plural(len(self.statements), 'statement')} tested"

    @property
    def headline(self) -> str:
        """The verdict with its coverage; alone it would say too much."""
        return f"{self.verdict} ({self.coverage})"

    @property
    def seconds(self) -> float:
        """What measuring took, all statements together."""
        return sum(one.seconds for one in self.statements)


def run_statement(statement: Statement, setting: Setting) -> StatementResult:
    """Measure a statement and give its verdict."""
    begun = time.monotonic()
    measurement, reason = None, statement.only_full if setting.quick else ""
    if not reason:
        try:
            measurement = statement.measure(setting)
        except NotTestable as outcome:
            reason = str(outcome)
    release_memory()
    verdict = Verdict.NOT_TESTABLE
    if measurement is not None:
        verdict, reason = measurement.verdict(statement.threshold)
    return StatementResult(
        statement=statement,
        verdict=verdict,
        reason=reason,
        measurement=measurement,
        seconds=round(time.monotonic() - begun, 2),
        conditions=current_conditions(),
    )


def release_memory() -> None:
    """Give the memory that a measurement used back to the system: the next one may start several processes."""
    # The networks of a measurement lie in reference cycles, gigabytes that stay until Python collects them; then glibc
    # keeps what was freed.
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
