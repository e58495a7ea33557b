"""What a network answered to every image of a split, and every figure that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from convatlas.data import Batches
from convatlas.models.evaluation import Evaluation
from convatlas.spec import Objective

NUM_BINS = 15
"""Guo et al. 2017, section 4.2."""


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is told from the others."""

    label: int
    num_images: int
    precision: float | None
    """The part of the images that got this answer which are of the class; None where none got it."""
    recall: float | None
    """The part of the class's images that got this answer; None where there are none."""
    f1: float | None
    """The harmonic mean of the two: 0 where nothing is right, None where there is neither image nor answer."""
    taken_for: int | None
    """The wrong class that its images are most often taken for; None where all are right."""
    num_taken: int
    """How often."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Whether the network is right as often as it says: its answers in bins by their probability.

    The bins are of equal width, each with its upper end and without its lower (Guo et al. 2017, "On Calibration of
    Modern Neural Networks", section 2).
    """

    counts: Tensor
    """(bins,), int64: images."""
    confidence: Tensor
    """(bins,), float64: the mean probability of the answers; 0 in an empty bin."""
    accuracy: Tensor
    """(bins,), float64: the part of them that is right; 0 in an empty bin."""

    @property
    def ece(self) -> float:
        """The expected calibration error: how far confidence is from accuracy, on average over the images."""
        gaps = (self.accuracy - self.confidence).abs()
        return float((self.counts * gaps).sum() / self.counts.sum())


@dataclass(frozen=True, eq=False)
class Predictions:
    """At least one image's."""

    probabilities: Tensor
    """(n, classes), float32."""
    labels: Tensor
    """(n,), int64: the true classes."""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def given(self) -> Tensor:
        """The answers (n,): the likeliest class of each image."""
        return self.probabilities.argmax(1)

    @cached_property
    def right(self) -> Tensor:
        """(n,), bool."""
        return self.given == self.labels

    @cached_property
    def confidence(self) -> Tensor:
        """The probabilities (n,) of the answers, float64."""
        return self.probabilities.double().gather(1, self.given[:, None])[:, 0]

    @cached_property
    def confusion(self) -> Tensor:
        """(classes, classes) counts: a row for each true class, a column for each answer."""
        num = self.probabilities.shape[1]
        return torch.bincount(self.labels * num + self.given, minlength=num * num).view(num, num)

    @property
    def accuracy(self) -> float:
        """A fraction."""
        return int(self.right.sum()) / len(self)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the accuracy lies with 95 % confidence."""
        return Evaluation(self.confusion, self.nll).interval

    @property
    def mean_confidence(self) -> float:
        return float(self.confidence.mean())

    @property
    def nll(self) -> float:
        """The mean negative logarithm of the true class's probability, in nats.

        A probability that came out as 0 counts as the smallest one that float32 has in full precision, 1.2e-38.
        """
        of_truth = self.probabilities.double().gather(1, self.labels[:, None])
        return float(-of_truth.clamp_min(torch.finfo(torch.float32).tiny).log().mean())

    @property
    def of_classes(self) -> tuple[ClassFigures, ...]:
        """A row for each class, in the set's own order."""
        right = self.confusion.diagonal()
        wrong = self.confusion - right.diag()
        most, taken_for = wrong.max(1)
        sums = zip(
            right.tolist(),
            self.confusion.sum(1).tolist(),
            self.confusion.sum(0).tolist(),
            taken_for.tolist(),
            most.tolist(),
            strict=True,
        )
        return tuple(
            ClassFigures(
                label=label,
                num_images=num,
                precision=hits / answered if answered else None,
                recall=hits / num if num else None,
                f1=2 * hits / (num + answered) if num + answered else None,
                taken_for=other if taken else None,
                num_taken=taken,
            )
            for label, (hits, num, answered, other, taken) in enumerate(sums)
        )

    @property
    def calibration(self) -> Calibration:
        bins = (self.confidence * NUM_BINS).ceil().long().sub(1).clamp(0, NUM_BINS - 1)
        counts = torch.bincount(bins, minlength=NUM_BINS)
        confidence, right = (
            torch.bincount(bins, weights=values, minlength=NUM_BINS) / counts.clamp_min(1)
            for values in (self.confidence, self.right.double())
        )
        return Calibration(counts, confidence, right)

    def worst(self, num: int) -> Tensor:
        """At most `num` places of wrong answers, those with the highest probability first."""
        wrong = (~self.right).nonzero()[:, 0]
        order = self.confidence[wrong].sort(descending=True, stable=True).indices
        return wrong[order[:num]]


def answer(network: nn.Module, objective: Objective, batches: Batches) -> Predictions:
    """Show a network in evaluation mode every image of the batches once, in order."""
    network.eval()
    probabilities, labels = [], []
    with torch.inference_mode():
        for step in range(len(batches)):
            batch = batches.in_order(step)
            probabilities.append(objective.probabilities(network(batch.inputs)).float().cpu())
            labels.append(batch.labels.cpu())
    return Predictions(torch.cat(probabilities), torch.cat(labels))
