"""How often a network is right, and how sure that figure is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convatlas.data import Batches
from convatlas.spec import Objective


@dataclass(frozen=True)
class Evaluation:
    confusion: Tensor
    """(classes, classes) counts: a row for each true class, a column for each answer."""
    loss: float

    @property
    def num_pictures(self) -> int:
        return int(self.confusion.sum())

    @property
    def num_errors(self) -> int:
        return self.num_pictures - int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """A fraction."""
        return 1 - self.num_errors / self.num_pictures

    @property
    def interval(self) -> tuple[float, float]:
        """Where the accuracy lies with 95 % confidence (Wilson 1927)."""
        n, p, z = self.num_pictures, self.accuracy, 1.959964
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        # At 0 and 1 rounding would leave the accuracy itself outside.
        return max(min(centre - half, p), 0.0), min(max(centre + half, p), 1.0)


def evaluate(network: nn.Module, objective: Objective, batches: Batches, num_classes: int) -> Evaluation:
    """Answer every picture of the batches once, in order, with the network in evaluation mode."""
    network.eval()
    confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64)
    total = 0.0
    with torch.inference_mode():
        for step in range(len(batches)):
            inputs, labels = batches.in_order(step)
            outputs = network(inputs)
            targets = nn.functional.one_hot(labels, num_classes).to(outputs.dtype)
            total += objective.loss(outputs, targets).item() * len(labels)
            pairs = labels * num_classes + outputs.argmax(1)
            confusion += torch.bincount(pairs.cpu(), minlength=num_classes * num_classes)
    return Evaluation(confusion.view(num_classes, num_classes), total / len(batches.labels))
