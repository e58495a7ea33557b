"""Comparisons of trained networks, from known predictions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from convatlas.experiments.engine.comparison import compare, failed_precondition
from convatlas.experiments.engine.rates import ChosenRate


def test_a_difference_is_that_of_the_test_errors(known_arm: Callable) -> None:
    trained = {"plain": known_arm(12.0, 13.0, 14.0), "residual": known_arm(9.0, 9.0, 9.0)}
    found = compare(trained, {"plain": 1.0, "residual": -1.0}, max_training_error=30.0)
    assert found.estimate.values == pytest.approx((3.0, 4.0, 5.0))
    assert found.estimate.num_images == 1_000
    assert found.failed == ""
    rows = dict(found.figures)
    assert rows["test error, plain"].startswith("13.00 % (")
    assert rows["training error, residual"] == "1.0 %"
    assert found.answers is not None
    assert found.answers.predictions.keys() == trained.keys()


def test_weights_may_make_a_mean(known_arm: Callable) -> None:
    trained = {name: known_arm(error, error) for name, error in (("a", 10.0), ("b", 20.0), ("c", 12.0))}
    found = compare(trained, {"a": 0.5, "b": 0.5, "c": -1.0}, max_training_error=30.0)
    assert found.estimate.center == pytest.approx(3.0)


def test_networks_that_have_not_learned_say_nothing(known_arm: Callable) -> None:
    trained = {"a": known_arm(50.0, training_errors=[41.0, 39.0]), "b": known_arm(60.0, training_errors=[70.0])}
    assert failed_precondition(trained, 40.0) == ""
    assert failed_precondition(trained, 39.0).startswith("the better of the networks has a training error of 40.0 %")
    # A network beside the comparison does not make it valid.
    third = trained | {"c": known_arm(1.0, training_errors=[0.0])}
    assert compare(third, {"a": 1.0, "b": -1.0}, max_training_error=39.0).failed


def test_a_rate_at_the_end_of_those_tried_says_nothing(known_arm: Callable) -> None:
    edge, inside = ChosenRate.of({0.1: 0.5, 0.3: 0.9}), ChosenRate.of({0.1: 0.5, 0.3: 0.9, 1.0: 0.2})
    assert failed_precondition({"a": known_arm(1.0, chosen=inside)}, 5.0) == ""
    assert "a: the best learning rate, 0.3, is at the end" in failed_precondition(
        {"a": known_arm(1.0, chosen=edge)}, 5.0
    )
