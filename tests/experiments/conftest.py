"""Runs whose answers are known, for statistics that are made from answers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from convatlas.experiments.engine import experiment
from convatlas.experiments.engine.experiment import Setting


@dataclass(frozen=True)
class Known:
    """A run, as far as its test accuracy."""

    test_accuracy: float


@pytest.fixture
def known() -> Callable[[Iterable[float]], list[Known]]:
    """Makes runs of test accuracies in percent."""
    return lambda percent: [Known(accuracy / 100) for accuracy in percent]


@pytest.fixture
def trainings(
    monkeypatch: pytest.MonkeyPatch, known: Callable[[Iterable[float]], list[Known]]
) -> Callable[[Mapping[Any, Iterable[float]]], None]:
    """Sets what trainings come to: test accuracies in percent, one a seed, by the name of what is trained."""

    def given(accuracies: Mapping[Any, Iterable[float]]) -> None:
        found = {name: known(each) for name, each in accuracies.items()}
        monkeypatch.setattr(Setting, "train_each", lambda self, wanted: {name: found[name] for name in wanted})
        monkeypatch.setattr(experiment, "training_accuracy", lambda runs: 100.0)

    return given
