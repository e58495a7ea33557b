"""Accuracies of trained networks, in percent, and whether they learned enough for a verdict about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from convatlas.models.card import Score
from convatlas.models.evaluation import Evaluation
from convatlas.runs.run import Run

MIN_TRAINING_ACCURACY = 80.0
"""Accuracy in percent, on the training images, below which a network does not count as trained."""


def accuracy_of(score: Score | Evaluation) -> float:
    """In percent."""
    return 100 * (score.num_images - score.num_errors) / score.num_images


def error_of(score: Score | Evaluation) -> float:
    """In percent."""
    return 100 * score.num_errors / score.num_images


def accuracies_of(runs: Iterable[Run]) -> tuple[float, ...]:
    """Test accuracies in percent."""
    return tuple(accuracy_of(run.score) for run in runs)


def errors_of(runs: Iterable[Run]) -> tuple[float, ...]:
    """Test errors in percent."""
    return tuple(error_of(run.score) for run in runs)


def differences(first: Iterable[float], second: Iterable[float]) -> tuple[float, ...]:
    """The first minus the second, for each seed."""
    return tuple(one - other for one, other in zip(first, second, strict=True))


def training_evaluation(run: Run) -> Evaluation:
    """The trained network's evaluation on its own training images, without augmentation."""
    return run.evaluate(run.load_data().train)


def training_accuracy(runs: Iterable[Run]) -> float:
    """The lowest of the trained networks' accuracies on their own training images, in percent."""
    return min(accuracy_of(training_evaluation(run)) for run in runs)


def undertrained(runs: Mapping[str, Sequence[Run]]) -> str:
    """The reason for no verdict, where a statement is about trained networks and one of these has not learned.

    Args:
        runs: by the name of the network in words.

    Returns:
        An empty string where all have learned.
    """
    # A network with such a test accuracy must have learned; evaluating its training images takes as long as an epoch.
    suspects = {name: each for name, each in runs.items() if min(accuracies_of(each)) < MIN_TRAINING_ACCURACY}
    return undertrained_reason({name: training_accuracy(each) for name, each in suspects.items()}) if suspects else ""


def undertrained_reason(training_accuracies: Mapping[str, float]) -> str:
    """The same from training accuracies in percent, by name."""
    name = min(training_accuracies, key=training_accuracies.__getitem__)
    if training_accuracies[name] >= MIN_TRAINING_ACCURACY:
        return ""
    return (
        f"{name}: with a training accuracy of {training_accuracies[name]:.0f} % the network has hardly learned, "
        "but the statement is about trained networks; a longer training is needed, as in the full budget"
    )
