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
from convatlas.models.predictions import NUM_BINS, Predictions, collect_predictions
from convatlas.networks.blocks import CrossEntropy


class Plain(NamedTuple):
    """The same as `Predictions`, as plain lists."""

    rows: list[list[float]]
    labels: list[int]

    @property
    def tensors(self) -> Predictions:
        return Predictions(torch.tensor(self.rows, dtype=torch.float32), torch.tensor(self.labels))

    @property
    def predicted(self) -> list[int]:
        return [row.index(max(row)) for row in self.rows]

    @property
    def confidence(self) -> list[float]:
        return [max(row) for row in self.rows]


def of_weights(weights: list[list[int]], labels: list[int]) -> Plain:
    """Probabilities in these proportions, as float32 has them."""
    rows = [np.array(row, np.float32) / np.float32(sum(row)) for row in weights]
    return Plain([row.tolist() for row in rows], labels)


def plain_of(num_classes: int) -> st.SearchStrategy[Plain]:
    row = st.lists(st.integers(0, 20), min_size=num_classes, max_size=num_classes).filter(any)
    image = st.tuples(row, st.integers(0, num_classes - 1))
    return st.lists(image, min_size=1, max_size=60).map(
        lambda images: of_weights([weights for weights, _ in images], [label for _, label in images])
    )


plain_predictions = st.integers(2, 6).flatmap(plain_of)


@given(plain_predictions)
def test_the_confusion_matrix_counts_each_image_at_its_class_and_its_predicted_class(plain: Plain) -> None:
    num = len(plain.rows[0])
    pairs = list(zip(plain.labels, plain.predicted, strict=True))
    expected = [[pairs.count((true, predicted)) for predicted in range(num)] for true in range(num)]
    assert plain.tensors.confusion.tolist() == expected
    assert len(plain.tensors) == len(plain.labels)


@given(plain_predictions)
def test_the_accuracy_is_the_fraction_of_correct_predictions(plain: Plain) -> None:
    correct = [true == predicted for true, predicted in zip(plain.labels, plain.predicted, strict=True)]
    assert plain.tensors.correct.tolist() == correct
    assert plain.tensors.accuracy == pytest.approx(sum(correct) / len(correct))
    low, high = plain.tensors.interval
    assert low <= plain.tensors.accuracy <= high


@given(plain_predictions)
def test_the_metrics_of_a_class_count_its_images_and_its_predictions(plain: Plain) -> None:
    for label, metrics in enumerate(plain.tensors.per_class):
        images = {i for i, true in enumerate(plain.labels) if true == label}
        predicted = {i for i, own in enumerate(plain.predicted) if own == label}
        hits = len(images & predicted)
        assert (metrics.label, metrics.num_images) == (label, len(images))
        assert metrics.recall == (pytest.approx(hits / len(images)) if images else None)
        assert metrics.precision == (pytest.approx(hits / len(predicted)) if predicted else None)
        if hits:
            assert metrics.f1 == pytest.approx(2 / (len(images) / hits + len(predicted) / hits))
        else:
            assert metrics.f1 == (0 if images or predicted else None)


@given(plain_predictions)
def test_a_class_is_confused_with_the_one_that_most_of_its_errors_name(plain: Plain) -> None:
    for label, metrics in enumerate(plain.tensors.per_class):
        pairs = zip(plain.labels, plain.predicted, strict=True)
        wrong = [predicted for true, predicted in pairs if true == label != predicted]
        if not wrong:
            assert (metrics.confused_with, metrics.num_confused) == (None, 0)
        else:
            assert metrics.confused_with in wrong
            assert metrics.num_confused == wrong.count(metrics.confused_with) == max(map(wrong.count, wrong))


@given(plain_predictions)
def test_the_calibration_error_is_that_of_the_paper(plain: Plain) -> None:
    calibration = plain.tensors.calibration
    error = Fraction(0)
    for m in range(1, NUM_BINS + 1):
        # The bin ((m - 1) / M, m / M].
        inside = [
            i
            for i, p in enumerate(plain.confidence)
            if Fraction(m - 1, NUM_BINS) < Fraction(p) <= Fraction(m, NUM_BINS)
        ]
        assert calibration.counts[m - 1] == len(inside)
        if inside:
            confidence = sum(Fraction(plain.confidence[i]) for i in inside) / len(inside)
            accuracy = Fraction(sum(plain.predicted[i] == plain.labels[i] for i in inside), len(inside))
            assert calibration.confidence[m - 1].item() == pytest.approx(float(confidence))
            assert calibration.accuracy[m - 1].item() == pytest.approx(float(accuracy))
            error += Fraction(len(inside), len(plain.rows)) * abs(accuracy - confidence)
    assert calibration.ece == pytest.approx(float(error), abs=1e-12)


def test_there_are_fifteen_bins_and_confident_predictions_fall_into_the_last() -> None:
    calibration = of_weights([[1, 0], [0, 1], [1, 1]], [0, 0, 0]).tensors.calibration
    assert calibration.counts.tolist() == [0] * 7 + [1] + [0] * 6 + [2]
    assert calibration.accuracy[-1] == 0.5
    # Of probabilities that rounding makes a little more than 1, too.
    more = Predictions(torch.tensor([[1.0000001, 0.0]]), torch.tensor([0])).calibration
    assert more.counts.tolist() == [0] * 14 + [1]
    # The one in the middle is correct and has a confidence of one half; of the two confident ones half are wrong.
    assert calibration.ece == pytest.approx(0.5)


@given(plain_predictions)
def test_the_mean_confidence_is_that_of_the_predicted_classes(plain: Plain) -> None:
    assert plain.tensors.mean_confidence == pytest.approx(sum(plain.confidence) / len(plain.rows))


@given(plain_predictions)
def test_the_likelihood_is_that_of_the_true_classes(plain: Plain) -> None:
    of_truth = [row[label] for row, label in zip(plain.rows, plain.labels, strict=True)]
    expected = sum(-math.log(p) if p else 126 * math.log(2) for p in of_truth) / len(of_truth)
    assert plain.tensors.nll == pytest.approx(expected)


def test_a_true_class_with_probability_0_leaves_the_likelihood_finite() -> None:
    assert of_weights([[0, 1]], [0]).tensors.nll == pytest.approx(87.3365, abs=1e-4)


@given(plain_predictions, st.integers(0, 70))
def test_the_worst_mistakes_are_the_most_confident_errors(plain: Plain, num: int) -> None:
    wrong = [i for i in range(len(plain.rows)) if plain.labels[i] != plain.predicted[i]]
    expected = sorted(wrong, key=lambda i: -plain.confidence[i])
    assert plain.tensors.worst(num).tolist() == expected[:num]


class Shown(nn.Module):
    """Predictions with the image itself: one pixel, a channel for each class. Dropout tells the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x.flatten(1))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_every_image_is_predicted_once_in_order_in_evaluation_mode(batch_size: int) -> None:
    images = [[255, 0, 0], [0, 255, 51], [0, 0, 255], [10, 20, 30], [200, 100, 0]]
    labels = [0, 1, 2, 0, 1]
    split = Split(np.array(images, np.uint8)[:, :, None, None], np.array(labels, np.int64))
    plain = Preprocessing(resize=1, crop=1, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    batches = Batches(split, plain, num_classes=3, batch_size=batch_size, device=torch.device("cpu"))
    predictions = collect_predictions(Shown().train(), CrossEntropy(), batches)
    assert predictions.labels.tolist() == labels
    for row, image in zip(predictions.probabilities.tolist(), images, strict=True):
        exponents = [math.exp(value / 255) for value in image]
        assert row == pytest.approx([value / sum(exponents) for value in exponents])
    evaluation = evaluate(Shown(), CrossEntropy(), batches)
    assert torch.equal(predictions.confusion, evaluation.confusion)
    assert torch.equal(predictions.predicted, evaluation.predictions)
    # Cross entropy is the negative log-likelihood.
    assert predictions.nll == pytest.approx(evaluation.loss, rel=1e-5)
