"""What a network predicts for every image of a split, and the metrics that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from convatlas.data import Batches
from convatlas.models.evaluation import wilson_interval
from convatlas.spec import Objective

NUM_BINS = 15
"""Guo et al. 2017, section 4.2."""


@dataclass(frozen=True)
class ClassMetrics:
    """Precision, recall and the like of one class."""

    label: int
    num_images: int
    precision: float | None
    """The fraction of the images predicted as this class that are of it; None if none was."""
    recall: float | None
    """The fraction of the class's images that are predicted correctly; None if it has no images."""
    f1: float | None
    """The harmonic mean of precision and recall; None if the class has neither images nor predictions."""
    confused_with: int | None
    """The class that its images are most often mistaken for; None if all are correct."""
    num_confused: int
    """The images that are mistaken for it."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """How accuracy follows confidence: predictions in bins by the probability of the predicted class.

    The bins have equal width, each with its upper edge and without its lower one (Guo et al. 2017, "On Calibration of
    Modern Neural Networks", section 2).
    """

    counts: Tensor
    """(bins,), int64: images."""
    confidence: Tensor
    """(bins,), float64: the mean probability of the predicted classes; 0 in an empty bin."""
    accuracy: Tensor
    """(bins,), float64; 0 in an empty bin."""

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean distance of confidence and accuracy over the images, a fraction."""
        gaps = (self.accuracy - self.confidence).abs()
        return float((self.counts * gaps).sum() / self.counts.sum())


@dataclass(frozen=True, eq=False)
class Predictions:
    """The class probabilities of one labeled image or more, and the metrics that follow from them."""

    probabilities: Tensor
    """(n, classes), float32."""
    labels: Tensor
    """(n,), int64: the true classes."""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def predicted(self) -> Tensor:
        """The most probable class of each image, (n,)."""
        return self.probabilities.argmax(1)

    @cached_property
    def correct(self) -> Tensor:
        """Whether that is the true class, (n,), bool."""
        return self.predicted == self.labels

    @cached_property
    def confidence(self) -> Tensor:
        """The probability of the predicted class, (n,), float64."""
        return self.probabilities.double().gather(1, self.predicted[:, None])[:, 0]

    @cached_property
    def confusion(self) -> Tensor:
        """(classes, classes), int64: counts, a row for each true class, a column for each predicted one."""
        num = self.probabilities.shape[1]
        return torch.bincount(self.labels * num + self.predicted, minlength=num * num).view(num, num)

    @property
    def accuracy(self) -> float:
        """A fraction."""
        return int(self.correct.sum()) / len(self)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy (Wilson)."""
        return wilson_interval(int(self.correct.sum()), len(self))

    @property
    def mean_confidence(self) -> float:
        """The mean probability of the predicted classes; above the accuracy where the network is overconfident."""
        return float(self.confidence.mean())

    @property
    def nll(self) -> float:
        """The mean negative log-likelihood of the true class, in nats.

        A probability of 0 counts as the smallest normal float32, 1.2e-38.
        """
        of_truth = self.probabilities.double().gather(1, self.labels[:, None])
        return float(-of_truth.clamp_min(torch.finfo(torch.float32).tiny).log().mean())

    @property
    def per_class(self) -> tuple[ClassMetrics, ...]:
        """The metrics of each class, in the order of the outputs."""
        correct = self.confusion.diagonal()
        wrong = self.confusion - correct.diag()
        most, confused_with = wrong.max(1)
        sums = zip(
            correct.tolist(),
            self.confusion.sum(1).tolist(),
            self.confusion.sum(0).tolist(),
            confused_with.tolist(),
            most.tolist(),
            strict=True,
        )
        return tuple(
            ClassMetrics(
                label=label,
                num_images=num,
                precision=hits / predicted if predicted else None,
                recall=hits / num if num else None,
                f1=2 * hits / (num + predicted) if num + predicted else None,
                confused_with=other if mistaken else None,
                num_confused=mistaken,
            )
            for label, (hits, num, predicted, other, mistaken) in enumerate(sums)
        )

    @property
    def calibration(self) -> Calibration:
        """How accuracy follows confidence, in 15 bins."""
        bins = (self.confidence * NUM_BINS).ceil().long().sub(1).clamp(0, NUM_BINS - 1)
        counts = torch.bincount(bins, minlength=NUM_BINS)
        confidence, accuracy = (
            torch.bincount(bins, weights=values, minlength=NUM_BINS) / counts.clamp_min(1)
            for values in (self.confidence, self.correct.double())
        )
        return Calibration(counts, confidence, accuracy)

    def worst(self, num: int) -> Tensor:
        """The places of at most `num` wrong predictions, those with the highest probability first."""
        wrong = (~self.correct).nonzero()[:, 0]
        order = self.confidence[wrong].sort(descending=True, stable=True).indices
        return wrong[order[:num]]


def collect_predictions(network: nn.Module, objective: Objective, batches: Batches) -> Predictions:
    """The predictions for every image of the batches, in order, by a network in evaluation mode."""
    network.eval()
    probabilities, labels = [], []
    with torch.inference_mode():
        for step in range(len(batches)):
            batch = batches.in_order(step)
            probabilities.append(objective.probabilities(network(batch.inputs)).float().cpu())
            labels.append(batch.labels.cpu())
    return Predictions(torch.cat(probabilities), torch.cat(labels))
