import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas.data import Batches, Split
from convatlas.images import Preprocessing
from convatlas.models.evaluation import evaluate
from convatlas.models.predictions import NUM_BINS, Predictions, answer
from convatlas.networks.blocks import CrossEntropy


class Told(NamedTuple):
    """The same as `Predictions`, as plain lists."""

    rows: list[list[float]]
    labels: list[int]

    @property
    def answers(self) -> Predictions:
        return Predictions(torch.tensor(self.rows, dtype=torch.float32), torch.tensor(self.labels))

    @property
    def given(self) -> list[int]:
        return [row.index(max(row)) for row in self.rows]

    @property
    def confidence(self) -> list[float]:
        return [max(row) for row in self.rows]


def of_weights(weights: list[list[int]], labels: list[int]) -> Told:
    """Probabilities in these proportions, as float32 has them."""
    rows = [np.array(row, np.float32) / np.float32(sum(row)) for row in weights]
    return Told([row.tolist() for row in rows], labels)


def told_of(num_classes: int) -> st.SearchStrategy[Told]:
    row = st.lists(st.integers(0, 20), min_size=num_classes, max_size=num_classes).filter(any)
    image = st.tuples(row, st.integers(0, num_classes - 1))
    return st.lists(image, min_size=1, max_size=60).map(
        lambda images: of_weights([weights for weights, _ in images], [label for _, label in images])
    )


told = st.integers(2, 6).flatmap(told_of)


@given(told)
def test_the_confusion_counts_each_image_at_its_class_and_its_likeliest_answer(told: Told) -> None:
    num = len(told.rows[0])
    pairs = list(zip(told.labels, told.predicted, strict=True))
    expected = [[pairs.count((truth, given)) for given in range(num)] for truth in range(num)]
    assert told.answers.confusion.tolist() == expected
    assert len(told.answers) == len(told.labels)


@given(told)
def test_the_accuracy_is_the_part_that_is_right(told: Told) -> None:
    right = [truth == given for truth, given in zip(told.labels, told.predicted, strict=True)]
    assert told.answers.correct.tolist() == right
    assert told.answers.accuracy == pytest.approx(sum(right) / len(right))
    low, high = told.answers.interval
    assert low <= told.answers.accuracy <= high


@given(told)
def test_the_figures_of_a_class_count_its_images_and_its_answers(told: Told) -> None:
    for label, figures in enumerate(told.answers.per_class):
        images = {i for i, truth in enumerate(told.labels) if truth == label}
        answered = {i for i, given in enumerate(told.predicted) if given == label}
        hits = len(images & answered)
        assert (figures.label, figures.num_images) == (label, len(images))
        assert figures.recall == (pytest.approx(hits / len(images)) if images else None)
        assert figures.precision == (pytest.approx(hits / len(answered)) if answered else None)
        if hits:
            assert figures.f1 == pytest.approx(2 / (len(images) / hits + len(answered) / hits))
        else:
            assert figures.f1 == (0 if images or answered else None)


@given(told)
def test_a_class_is_taken_for_the_one_that_most_of_its_wrong_answers_name(told: Told) -> None:
    for label, figures in enumerate(told.answers.per_class):
        pairs = zip(told.labels, told.predicted, strict=True)
        wrong = [given for truth, given in pairs if truth == label != given]
        if not wrong:
            assert (figures.confused_with, figures.num_confused) == (None, 0)
        else:
            assert figures.confused_with in wrong
            assert figures.num_confused == wrong.count(figures.confused_with) == max(map(wrong.count, wrong))


@given(told)
def test_the_calibration_error_is_that_of_the_paper(told: Told) -> None:
    calibration = told.answers.calibration
    error = Fraction(0)
    for m in range(1, NUM_BINS + 1):
        # The bin ((m - 1) / M, m / M].
        inside = [
            i for i, p in enumerate(told.confidence) if Fraction(m - 1, NUM_BINS) < Fraction(p) <= Fraction(m, NUM_BINS)
        ]
        assert calibration.counts[m - 1] == len(inside)
        if inside:
            confidence = sum(Fraction(told.confidence[i]) for i in inside) / len(inside)
            accuracy = Fraction(sum(told.predicted[i] == told.labels[i] for i in inside), len(inside))
            assert calibration.confidence[m - 1].item() == pytest.approx(float(confidence))
            assert calibration.accuracy[m - 1].item() == pytest.approx(float(accuracy))
            error += Fraction(len(inside), len(told.rows)) * abs(accuracy - confidence)
    assert calibration.ece == pytest.approx(float(error), abs=1e-12)


def test_there_are_fifteen_bins_and_sure_answers_fall_into_the_last() -> None:
    calibration = of_weights([[1, 0], [0, 1], [1, 1]], [0, 0, 0]).answers.calibration
    assert calibration.counts.tolist() == [0] * 7 + [1] + [0] * 6 + [2]
    assert calibration.accuracy[-1] == 0.5
    # The one in the middle is right with half the probability; of the two sure ones half are wrong.
    assert calibration.ece == pytest.approx(0.5)


@given(told)
def test_the_mean_confidence_is_that_of_the_answers(told: Told) -> None:
    assert told.answers.mean_confidence == pytest.approx(sum(told.confidence) / len(told.rows))


@given(told)
def test_the_likelihood_is_that_of_the_true_classes(told: Told) -> None:
    of_truth = [row[label] for row, label in zip(told.rows, told.labels, strict=True)]
    expected = sum(-math.log(p) if p else 126 * math.log(2) for p in of_truth) / len(of_truth)
    assert told.answers.nll == pytest.approx(expected)


def test_a_true_class_that_was_ruled_out_leaves_the_likelihood_finite() -> None:
    assert of_weights([[0, 1]], [0]).answers.nll == pytest.approx(87.3365, abs=1e-4)


@given(told, st.integers(0, 70))
def test_the_worst_mistakes_are_the_surest_of_the_wrong_answers(told: Told, num: int) -> None:
    wrong = [i for i in range(len(told.rows)) if told.labels[i] != told.predicted[i]]
    expected = sorted(wrong, key=lambda i: -told.confidence[i])
    assert told.answers.worst(num).tolist() == expected[:num]


class Shown(nn.Module):
    """Predictions with the image itself: one pixel, a channel for each class. Dropout tells the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x.flatten(1))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_every_image_is_answered_once_in_order_in_evaluation_mode(batch_size: int) -> None:
    images = [[255, 0, 0], [0, 255, 51], [0, 0, 255], [10, 20, 30], [200, 100, 0]]
    labels = [0, 1, 2, 0, 1]
    split = Split(np.array(images, np.uint8)[:, :, None, None], np.array(labels, np.int64))
    plain = Preprocessing(resolution=1, channels=3, mean=(0.0,) * 3, deviation=(1.0,) * 3)
    batches = Batches(split, plain, num_classes=3, batch_size=batch_size, device=torch.device("cpu"))
    answers = answer(Shown().train(), CrossEntropy(), batches)
    assert answers.labels.tolist() == labels
    for row, image in zip(answers.probabilities.tolist(), images, strict=True):
        exponents = [math.exp(value / 255) for value in image]
        assert row == pytest.approx([value / sum(exponents) for value in exponents])
    evaluation = evaluate(Shown(), CrossEntropy(), batches)
    assert torch.equal(answers.confusion, evaluation.confusion)
    # Cross entropy is the negative log-likelihood.
    assert answers.nll == pytest.approx(evaluation.loss, rel=1e-5)
