"""What training tells whoever watches."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from convatlas.data import Dataset
from convatlas.files import SILENT, ProgressCallback
from convatlas.runs import Run


class EpochMetrics(TypedDict):
    """A line of `metrics.jsonl`."""

    epoch: int
    """From 1."""
    loss: float
    """The mean over the epoch's images, as they were augmented."""
    accuracy: float
    """The fraction of them answered rightly."""
    lr: float
    """Of the epoch's last step."""
    seconds: float
    """Since the run began, interruptions not counted."""
    val_loss: NotRequired[float]
    """The mean over the images that were held out, by the weights that count."""
    val_accuracy: NotRequired[float]


class Progress:
    """Watches in silence; a subclass shows what it wants to."""

    loading: ProgressCallback = SILENT
    """Is told of downloads and of decoding."""

    def begin(self, run: Run, images: Dataset, num_steps: int, step: int) -> None:
        """Training starts, or goes on after `step` of its `num_steps`."""

    def say(self, line: str) -> None:
        """Something that the person should know."""

    def advance(self, num_images: int) -> None:
        """One step is done."""

    def epoch(self, metrics: EpochMetrics, num_epochs: int) -> None:
        """One epoch is done."""

    def close(self) -> None:
        """Training ends, in whatever way."""
