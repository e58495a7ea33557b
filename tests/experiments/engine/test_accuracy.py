"""Accuracies of trained networks, and whether they have learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from convatlas.experiments.engine import accuracy
from convatlas.experiments.engine.accuracy import (
    accuracies_of,
    errors_of,
    training_accuracy,
    training_evaluation,
    undertrained,
    undertrained_reason,
)
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.runs.options import Runtime
from convatlas.spec import Scale
from convatlas.training import Request


def test_a_network_that_has_not_learned_is_named() -> None:
    assert undertrained_reason({"deep": 80.0, "shallow": 99.0}) == ""
    assert undertrained_reason({"deep": 79.0, "shallow": 99.0}).startswith("deep: with a training accuracy of 79 %")


def test_accuracies_are_those_of_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(budget=Budget.QUICK, seeds=(0,), folder=tmp_path)
    run = setting.train(
        Request(network="lenet5-modern", scale=Scale(width=0.5), epochs=1, runtime=Runtime(autotune=False))
    )
    assert accuracies_of([run]) == (100 * run.test_accuracy,)
    assert errors_of([run]) == (100 * (1 - run.test_accuracy),)
    # The network stays where it was, whatever device evaluated it.
    evaluation = training_evaluation(run)
    assert evaluation.num_images == 1442
    assert next(run.network.parameters()).device.type == "cpu"
    own = 100 * evaluation.accuracy
    assert training_accuracy([run]) == own
    # A high test accuracy is enough; only below it are the training images evaluated.
    monkeypatch.setattr(accuracy, "MIN_TRAINING_ACCURACY", 0.0)
    monkeypatch.setattr(accuracy, "training_accuracy", lambda runs: -1.0)
    assert undertrained({"this": [run]}) == ""
    monkeypatch.setattr(accuracy, "MIN_TRAINING_ACCURACY", 101.0)
    monkeypatch.setattr(accuracy, "training_accuracy", training_accuracy)
    assert f"this: with a training accuracy of {own:.0f} %" in undertrained({"this": [run]})
