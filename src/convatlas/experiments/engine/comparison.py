"""Comparisons of trained networks, as most statements about them are."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import TrainedArm
from convatlas.experiments.engine.estimate import Estimate, combined_errors, in_words
from convatlas.experiments.engine.statement import Measurement


def compare(trained: Mapping[str, TrainedArm], weights: Mapping[str, float], max_training_error: float) -> Measurement:
    """A weighted sum of test errors, in points.

    Args:
        trained: the networks in words.
        weights: of those that are compared.
        max_training_error: in percent, what the best of these must come to for the comparison to be valid.
    """
    answers = Answers.of(trained)
    return Measurement(
        estimate=weighted_errors(answers, weights),
        failed=failed_precondition({name: trained[name] for name in weights}, max_training_error),
        figures=figures_of(trained, answers),
        answers=answers,
    )


def weighted_errors(answers: Answers, weights: Mapping[str, float]) -> Estimate:
    """A weighted sum of the networks' test errors, in points."""
    return combined_errors(*((weight, answers.errors(name)) for name, weight in weights.items()))


def test_error(answers: Answers, name: str) -> Estimate:
    """Of one network, in percent."""
    return weighted_errors(answers, {name: 1.0})


def failed_precondition(compared: Mapping[str, TrainedArm], max_training_error: float) -> str:
    """Why nothing can be said of these networks; empty where their comparison is valid."""
    return not_learned(compared, max_training_error) or rate_at_an_end(compared)


def not_learned(compared: Mapping[str, TrainedArm], max_training_error: float) -> str:
    """That the best of these networks has not come to that training error; empty where it has."""
    best = min(statistics.fmean(arm.training_errors) for arm in compared.values())
    if best > max_training_error:
        return (
            f"the better of the networks has a training error of {best:.1f} %, and at most {max_training_error:g} % "
            "was set as the sign that it has learned"
        )
    return ""


def rate_at_an_end(compared: Mapping[str, TrainedArm]) -> str:
    """That a better learning rate may lie beyond those that were tried; empty where none does."""
    for name, arm in compared.items():
        if arm.chosen is not None and arm.chosen.beyond is not None:
            return f"{name}: the best learning rate, {arm.chosen.rate:g}, is at the end of those that were tried"
    return ""


def figures_of(trained: Mapping[str, TrainedArm], answers: Answers) -> tuple[tuple[str, str], ...]:
    """Test error with its interval, training error and learning rate of each network."""
    rows = []
    for name, arm in trained.items():
        error = test_error(answers, name)
        rows.append((f"test error, {name}", in_words(error, "%")))
        rows.extend(learning_figures(name, arm))
    return tuple(rows)


def learning_figures(name: str, arm: TrainedArm) -> list[tuple[str, str]]:
    """Training error, learning rate and precision of a network's training."""
    rows = [(f"training error, {name}", f"{statistics.fmean(arm.training_errors):.1f} %")]
    if arm.chosen is not None:
        rows.append((f"learning rate, {name}", str(arm.chosen)))
    rows.append((f"computed in, {name}", arm.precision))
    return rows
