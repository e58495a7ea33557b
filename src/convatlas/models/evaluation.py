"""How accurate a network is, and how certain that figure is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convatlas.data import Batches, Split
from convatlas.data.batches import Shard
from convatlas.models.card import Card, Score
from convatlas.spec import Objective

NUM_NEAREST = 5
"""Classes of which the true one is to be one."""
BATCH_SIZE = 500
BATCH_PIXELS = 2**19
"""Of a batch, at most: a network with 64 channels of the input's size holds 128 MiB of each of them then."""


def wilson_interval(num_correct: int, num_images: int) -> tuple[float, float]:
    """The 95 % confidence interval of an accuracy (Wilson 1927)."""
    n, p, z = num_images, num_correct / num_images, 1.959964
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and 1 rounding would leave the accuracy itself outside.
    return max(min(center - half, p), 0.0), min(max(center + half, p), 1.0)


def score_of(num_errors: int, num_images: int) -> Score:
    """What a card says of so many errors in at least one image."""
    num_correct = num_images - num_errors
    return Score(
        # One division rounds once: of 1 in 5 it makes 0.2, and 1 - 4 / 5 is 0.19999999999999996.
        accuracy=num_correct / num_images,
        interval=wilson_interval(num_correct, num_images),
        num_errors=num_errors,
        num_images=num_images,
    )


@dataclass(frozen=True)
class Evaluation:
    """How a network did on labeled images."""

    confusion: Tensor
    """(classes, classes), int64: counts, a row for each true class, a column for each predicted one."""
    loss: float
    """The mean over the images."""
    predictions: Tensor
    """(n,), int64: the most probable class of each image, in the order of the split."""
    num_in_top5: int
    """The images whose true class is among the five most probable ones."""

    @property
    def num_images(self) -> int:
        """The images that it was shown."""
        return int(self.confusion.sum())

    @property
    def num_errors(self) -> int:
        """The images whose most probable class is not the true one."""
        return self.num_images - int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """A fraction."""
        return self.score.accuracy

    @property
    def top5_accuracy(self) -> float:
        """How often the true class is among the five most probable ones, a fraction; 1 where there are no more."""
        return self.num_in_top5 / self.num_images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy (Wilson)."""
        return self.score.interval

    @property
    def score(self) -> Score:
        """The same for a model's card."""
        return score_of(self.num_errors, self.num_images)


def batch_size(resolution: int) -> int:
    """Images that are evaluated at once."""
    return max(min(BATCH_SIZE, BATCH_PIXELS // resolution**2), 1)


def evaluation_batches(card: Card, split: Split, device: torch.device, shard: Shard | None = None) -> Batches:
    """Batches of images as they are, without augmentation; this process gets its shard of them."""
    return Batches(
        split,
        card.preprocessing,
        num_classes=len(card.classes),
        batch_size=batch_size(card.preprocessing.crop),
        device=device,
        shard=shard,
    )


def evaluate(
    network: nn.Module,
    objective: Objective,
    batches: Batches,
    over_processes: Callable[[Tensor], Tensor] = lambda values: values,
) -> Evaluation:
    """Show every image of the batches to the network once, in order, in evaluation mode.

    Args:
        over_processes: gives the sum of a tensor over all processes, where each has a shard of the batches.
    """
    network.eval()
    num, num_classes = len(batches.split), batches.num_classes
    predicted, indices = [], []
    loss, in_top5 = torch.zeros(2, dtype=torch.float64, device=batches.device)
    with torch.inference_mode():
        for step in range(len(batches)):
            batch = batches.in_order(step)
            outputs = network(batch.inputs)
            predicted.append(outputs.argmax(1))
            indices.append(batch.indices)
            loss += objective.losses(outputs, batch.targets.to(outputs.dtype)).sum()
            nearest = outputs.topk(min(NUM_NEAREST, num_classes)).indices
            in_top5 += (nearest == batch.labels[:, None]).sum()
        # The predictions, 0 where the image is another process's, and the sums: one tensor, which is summed over the
        # processes at once. Double precision counts exactly up to 2^53.
        own = torch.zeros(num + 2, dtype=torch.float64, device=batches.device)
        own[torch.cat(indices).to(batches.device)] = torch.cat(predicted).double()
        own[-2], own[-1] = loss, in_top5
    *_, loss, in_top5 = sums = over_processes(own.clone()).cpu()
    predictions = sums[:-2].long()
    pairs = batches.labels.cpu() * num_classes + predictions
    confusion = torch.bincount(pairs, minlength=num_classes * num_classes).view(num_classes, num_classes)
    return Evaluation(confusion, loss.item() / num, predictions, int(in_top5))
