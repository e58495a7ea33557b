"""What an experiment is: a claim in parts, each with a statistic and a threshold that are set before it is measured."""

from __future__ import annotations

import ctypes
import enum
import gc
import hashlib
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch

from convatlas.draw import Chart
from convatlas.experiments.engine.worker_pool import WorkerPool
from convatlas.formatting import plural
from convatlas.models.card import installed_versions
from convatlas.models.evaluation import Evaluation
from convatlas.runs.run import RECORD, Run, load
from convatlas.training import Progress, Request, finish


class Budget(enum.StrEnum):
    QUICK = "quick"
    """Two cores, the embedded digits, no network."""
    FULL = "full"
    """The paper's own setting, for a GPU."""


class Verdict(enum.StrEnum):
    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    NOT_TESTABLE = "not testable at this budget"


@dataclass(frozen=True)
class Threshold:
    """Where a statistic must lie for its part to be reproduced."""

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


ERRORS = 2
"""Standard errors by which the mean of several seeds must be clear of a threshold to tell."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a part came to."""

    values: tuple[float, ...]
    """The statistic, once for each seed or repetition; one alone where nothing is left to chance."""
    figures: tuple[tuple[str, str], ...] = ()
    """What else is worth reading: names and values in words."""
    charts: tuple[Chart, ...] = ()
    note: str = ""
    """What a reader must know beside it."""
    doubt: str = ""
    """Why it cannot tell, though it was measured, and what would be needed."""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation; None of a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def verdict(self, threshold: Threshold) -> tuple[Verdict, str]:
        """With the reason, where it takes one."""
        if self.doubt:
            return Verdict.NOT_TESTABLE, self.doubt
        half = ERRORS * (self.deviation or 0.0) / math.sqrt(len(self.values))
        inside = {value in threshold for value in (self.mean - half, self.mean, self.mean + half)}
        if len(inside) > 1:
            return Verdict.NOT_TESTABLE, (
                f"{len(self.values)} measurements cannot tell: {ERRORS} standard errors around the mean, "
                f"{self.mean - half:.4g} to {self.mean + half:.4g}, reach over the threshold"
            )
        return (Verdict.REPRODUCED if inside == {True} else Verdict.NOT_REPRODUCED), ""


class NotTestable(Exception):  # noqa: N818  # an answer, not an error
    """What a part raises that cannot tell at this budget: why, and what would be needed."""


K = TypeVar("K")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a part is measured in."""

    budget: Budget
    seeds: tuple[int, ...]
    folder: Path
    """For run folders, which parts and experiments share: the same training is done once."""
    progress: Progress = field(default_factory=Progress)
    workers: WorkerPool = field(default_factory=WorkerPool)
    """For trainings side by side."""
    trained: Callable[[], None] = lambda: None
    """Called when a training is done, in whatever thread."""

    @property
    def quick(self) -> bool:
        return self.budget is Budget.QUICK

    def train(self, request: Request) -> Run:
        """The finished run of what is asked for, as `convatlas.train` leaves it; an earlier one where there is one."""
        folder = self._folder_of(request)
        new = not is_finished(folder)
        run = finish(request, folder, self.progress)
        if new:
            self.trained()
        return run

    def train_all(self, requests: Iterable[Request]) -> None:
        """Train what is asked for and not finished yet, side by side; `train` gives each run then."""
        folders = {self._folder_of(request): request for request in requests}
        self.workers.train([(one, folder) for folder, one in folders.items() if not is_finished(folder)], self.trained)

    def train_each(self, wanted: Mapping[K, Callable[[int], Request]]) -> dict[K, list[Run]]:
        """The finished runs of each of several networks, one a seed, of which a request is made."""
        requests = {key: [request(seed) for seed in self.seeds] for key, request in wanted.items()}
        self.train_all(one for of_seed in zip(*requests.values(), strict=True) for one in of_seed)
        return {key: [self.train(one) for one in each] for key, each in requests.items()}

    def _folder_of(self, request: Request) -> Path:
        digest = hashlib.sha256(repr(request).encode()).hexdigest()[:12]
        return self.folder / f"{request.network}-{digest}"


def is_finished(folder: Path) -> bool:
    return (folder / RECORD).exists() and load(folder).record.results is not None


def training_evaluation(run: Run) -> Evaluation:
    """What the finished network answers to its own training images, unchanged."""
    return run.judge(run.load_data().train)


def accuracies_of(runs: Iterable[Run]) -> tuple[float, ...]:
    """Of the test images, in percent."""
    return tuple(100 * run.test_accuracy for run in runs)


def errors_of(runs: Iterable[Run]) -> tuple[float, ...]:
    """Of the test images, in percent."""
    return tuple(100 * (1 - run.test_accuracy) for run in runs)


def differences(first: Iterable[float], second: Iterable[float]) -> tuple[float, ...]:
    """By how much the first is above the second, for each seed."""
    return tuple(one - other for one, other in zip(first, second, strict=True))


LEARNED = 80.0
"""Accuracy in percent, on the training images, under which a network is not taken for a trained one."""


def training_accuracy(runs: Iterable[Run]) -> float:
    """In percent, the least of them: of the finished networks, on the images that they learned."""
    return min(100 * training_evaluation(run).accuracy for run in runs)


def unlearned(runs: Mapping[str, Sequence[Run]]) -> str:
    """A doubt, where a claim is about trained networks and one of these, by its name in words, is none."""
    # Who answers test images so well must have learned; asking for more would take as long as an epoch.
    doubtful = {name: each for name, each in runs.items() if min(accuracies_of(each)) < LEARNED}
    return doubted({name: training_accuracy(each) for name, each in doubtful.items()}) if doubtful else ""


def doubted(learned: Mapping[str, float]) -> str:
    """The same from training accuracies in percent."""
    name = min(learned, key=learned.__getitem__)
    if learned[name] >= LEARNED:
        return ""
    return (
        f"{name}: a network that answers {learned[name]:.0f} % of its training images rightly has hardly learned, "
        "and the claim is about trained networks; it needs a longer training, as --budget full has"
    )


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that a claim says, in a form that a measurement can answer."""

    id: str
    claim: str
    statistic: str
    """What is measured, with its unit."""
    threshold: Threshold
    measure: Callable[[Setting], Measured]
    only_full: str = ""
    """Why the quick budget cannot tell, and what it would need."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """When and on what a part was measured; parts of one result may have been on several days and machines."""

    when: str
    """The day."""
    machine: dict[str, str]
    """Its kind, in words."""
    versions: dict[str, str]


def conditions() -> Conditions:
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
class PartResult:
    part: Part
    verdict: Verdict
    reason: str
    measured: Measured | None
    """None where nothing was."""
    seconds: float
    conditions: Conditions


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A claim that made a network famous, and how it is tested."""

    id: str
    title: str
    claim: str
    """In its source's sense."""
    source: str
    done: str
    """What is done here, and how that differs from the source."""
    limits: str
    """What the quick budget leaves open."""
    minutes: tuple[float, float]
    """About what it takes: quick on two cores, full on a GPU."""
    parts: tuple[Part, ...]

    @property
    def command(self) -> str:
        return f"convatlas experiment run {self.id}"


def carry_out(part: Part, setting: Setting) -> PartResult:
    """Measure a part, and say what that means."""
    begun = time.monotonic()
    measured, reason = None, part.only_full if setting.quick else ""
    if not reason:
        try:
            measured = part.measure(setting)
        except NotTestable as answer:
            reason = str(answer)
    give_back_memory()
    verdict = Verdict.NOT_TESTABLE
    if measured is not None:
        verdict, reason = measured.verdict(part.threshold)
    return PartResult(
        part=part,
        verdict=verdict,
        reason=reason,
        measured=measured,
        seconds=round(time.monotonic() - begun, 2),
        conditions=conditions(),
    )


def give_back_memory() -> None:
    """What a part used is for the processes that the next one starts."""
    # Networks that a part built lie in cycles, gigabytes that would stay until Python looks for them, then in glibc.
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an experiment came to."""

    experiment: Experiment
    budget: Budget
    num_seeds: int
    parts: tuple[PartResult, ...]

    @cached_property
    def verdict(self) -> Verdict:
        """That of the worst part that was tested."""
        given = {one.verdict for one in self.parts}
        for verdict in (Verdict.NOT_REPRODUCED, Verdict.REPRODUCED):
            if verdict in given:
                return verdict
        return Verdict.NOT_TESTABLE

    @property
    def tested(self) -> str:
        """On how many of its parts the verdict rests."""
        num = sum(one.verdict is not Verdict.NOT_TESTABLE for one in self.parts)
        return f"{num} of {plural(len(self.parts), 'part')} tested"

    @property
    def describe(self) -> str:
        """The verdict with what it rests on, without which it says too much."""
        return f"{self.verdict} ({self.tested})"

    @property
    def seconds(self) -> float:
        return sum(one.seconds for one in self.parts)
