"""Runs with known results, for statistics that are computed from results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from convatlas.data import Split, digits
from convatlas.experiments.engine import accuracy
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.worker_pool import Job, WorkerPool, train
from convatlas.images import Resize
from convatlas.models.card import Score


@dataclass(frozen=True)
class Known:
    """A run, as far as its test accuracy."""

    test_accuracy: float

    @property
    def score(self) -> Score:
        num_errors = round(10_000 * (1 - self.test_accuracy))
        return Score(accuracy=self.test_accuracy, interval=(0.0, 1.0), num_errors=num_errors, num_images=10_000)


@pytest.fixture
def known() -> Callable[[Iterable[float]], list[Known]]:
    """Makes runs of test accuracies in percent."""
    return lambda percents: [Known(percent / 100) for percent in percents]


@pytest.fixture
def trainings(
    monkeypatch: pytest.MonkeyPatch, known: Callable[[Iterable[float]], list[Known]]
) -> Callable[[Mapping[Any, Iterable[float]]], None]:
    """Sets the results of trainings: test accuracies in percent, one for each seed, by the key of what is trained."""

    def given(accuracies: Mapping[Any, Iterable[float]]) -> None:
        runs = {key: known(each) for key, each in accuracies.items()}
        monkeypatch.setattr(Setting, "train_seeds", lambda self, requests: {key: runs[key] for key in requests})
        monkeypatch.setattr(accuracy, "training_accuracy", lambda runs: 100.0)

    return given


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

    def train_here(pool: WorkerPool, jobs: Sequence[Job], on_training_end: Callable[[], None] = lambda: None) -> None:
        for request, folder in jobs:
            train(request, folder)
            on_training_end()

    monkeypatch.setattr(WorkerPool, "train", train_here)
