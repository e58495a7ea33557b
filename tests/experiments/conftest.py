"""Trained networks with known results, for statistics that are computed from results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from convatlas.data import Split, digits
from convatlas.experiments.engine.answers import Classes
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.rates import ChosenRate
from convatlas.experiments.engine.statement import Measurement, Statement
from convatlas.experiments.engine.verdict import State, state_of
from convatlas.experiments.engine.worker_pool import Job, Work, WorkerPool, train
from convatlas.images import Resize
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run, load_run
from convatlas.spec import Scale
from convatlas.training import Request


@dataclass(frozen=True)
class KnownArm:
    """A `TrainedArm`, as far as its results."""

    predictions: Classes
    labels: Classes
    training_errors: list[float] = field(default_factory=lambda: [1.0])
    chosen: ChosenRate | None = None
    precision: str = "float32"


@pytest.fixture
def known_arm() -> Callable[..., KnownArm]:
    """Makes networks with these test errors in percent, one for each seed, on a thousand images of ten classes."""

    def made(*errors: float, training_errors: Sequence[float] = (1.0,), chosen: ChosenRate | None = None) -> KnownArm:
        labels = (np.arange(1_000) % 10).astype(np.uint8)
        predictions = np.stack([labels] * len(errors))
        for seed, error in enumerate(errors):
            wrong = round(10 * error)
            predictions[seed, :wrong] = (labels[:wrong] + 1) % 10
        return KnownArm(predictions, labels, list(training_errors), chosen)

    return made


@pytest.fixture
def state_reached() -> Callable[[Statement, Measurement], State]:
    """The state that a statement has by a measurement alone."""

    def reached(one: Statement, found: Measurement) -> State:
        p_value = one.threshold.p_value(found.estimate)
        return state_of(found.estimate, one.threshold, no_effect=one.no_effect, p_value=p_value)

    return reached


@pytest.fixture(scope="module")
def few_digits() -> Iterator[None]:
    """Of the digits, 256 to train on and 100 to test on."""
    all_splits = digits.splits

    def splits(resize: Resize) -> tuple[Split, Split]:
        train, test = all_splits(resize)
        return train.take(np.arange(256)), test.take(np.arange(100))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "splits", splits)
        yield


@pytest.fixture
def trained_briefly(few_digits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings see few digits, and wait for no process to start: they go on in this one."""

    def here(
        pool: WorkerPool, jobs: Sequence[Job], on_training_end: Callable[[], None] = lambda: None, *, work: Work = train
    ) -> None:
        for request, folder in jobs:
            work(request, folder)
            on_training_end()

    monkeypatch.setattr(WorkerPool, "run", here)


@pytest.fixture(scope="module")
def folder_of_run(few_digits: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a narrow network with shortcuts after one epoch of few digits."""
    request = Request(
        network="resnet20-cifar", data="digits", scale=Scale(width=0.25), epochs=1, runtime=Runtime(autotune=False)
    )
    folder = tmp_path_factory.mktemp("runs")
    return Setting(budget=Budget.STANDARD, seeds=(0,), folder=folder).train(request).folder


@pytest.fixture
def run(folder_of_run: Path) -> Run:
    """Opened anew, for a test to change its network."""
    return load_run(folder_of_run)
