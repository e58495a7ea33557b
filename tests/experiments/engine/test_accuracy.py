"""Accuracies of trained networks, and whether they have learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from convatlas.experiments.engine import accuracy
from convatlas.experiments.engine.accuracy import (
    accuracies_of,
    accuracy_of,
    error_of,
    errors_of,
    training_accuracy,
    training_evaluation,
    undertrained,
    undertrained_reason,
)
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.models.card import Score
from convatlas.runs.options import Runtime
from convatlas.spec import Scale
from convatlas.training import Request


def test_a_network_that_has_not_learned_is_named() -> None:
    assert undertrained_reason({"deep": 80.0, "shallow": 99.0}) == ""
    assert undertrained_reason({"deep": 79.0, "shallow": 99.0}).startswith("deep: with a training accuracy of 79 %")


@pytest.mark.parametrize(("num_errors", "accuracy", "error"), [(4, 20.0, 80.0), (43, 14.0, 86.0), (0, 100.0, 0.0)])
def test_percentages_are_as_exact_as_can_be(num_errors: int, accuracy: float, error: float) -> None:
    num_images = 50 if num_errors == 43 else 5
    score = Score(accuracy=0.0, interval=(0.0, 1.0), num_errors=num_errors, num_images=num_images)
    # 100 * (1 - 4 / 5) is 19.999999999999996, and 100 * (7 / 50) is 14.000000000000002.
    assert (accuracy_of(score), error_of(score)) == (accuracy, error)


@pytest.mark.usefixtures("trained_briefly")
def test_accuracies_are_those_of_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(budget=Budget.QUICK, seeds=(0,), folder=tmp_path)
    run = setting.train(
        Request(network="lenet5-modern", scale=Scale(width=0.5), epochs=1, runtime=Runtime(autotune=False))
    )
    assert accuracies_of([run]) == pytest.approx((100 * run.test_accuracy,))
    assert errors_of([run]) == pytest.approx((100 - 100 * run.test_accuracy,))
    # The network stays where it was, whatever device evaluated it.
    evaluation = training_evaluation(run)
    assert evaluation.num_images == 256
    assert next(run.network.parameters()).device.type == "cpu"
    own = accuracy_of(evaluation)
    assert training_accuracy([run]) == own
    # A high test accuracy is enough; only below it are the training images evaluated.
    monkeypatch.setattr(accuracy, "MIN_TRAINING_ACCURACY", 0.0)
    monkeypatch.setattr(accuracy, "training_accuracy", lambda runs: -1.0)
    assert undertrained({"this": [run]}) == ""
    monkeypatch.setattr(accuracy, "MIN_TRAINING_ACCURACY", 101.0)
    monkeypatch.setattr(accuracy, "training_accuracy", training_accuracy)
    assert f"this: with a training accuracy of {own:.0f} %" in undertrained({"this": [run]})
