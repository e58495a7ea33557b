"""What training reports while it runs."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from convatlas.data import Dataset
from convatlas.files import SILENT, ProgressCallback
from convatlas.runs.run import Run


class EpochMetrics(TypedDict):
    """A line of `metrics.jsonl`."""

    epoch: int
    """From 1."""
    loss: float
    """The mean over the epoch's images, augmented."""
    accuracy: float
    """The training accuracy on them, a fraction."""
    lr: float
    """Of the epoch's last step."""
    seconds: float
    """Since the run began, interruptions not counted."""
    val_loss: NotRequired[float]
    """The mean over the validation images, by the averaged weights if the recipe averages them."""
    val_accuracy: NotRequired[float]


class Progress:
    """Callbacks of training, which do nothing; a subclass overrides those that it needs."""

    loading: ProgressCallback = SILENT
    """Called with the progress of downloads and of decoding."""

    def begin(self, run: Run, images: Dataset, num_steps: int, step: int) -> None:
        """Training starts, or resumes after `step` of its `num_steps`."""

    def say(self, line: str) -> None:
        """Something that the user should know."""

    def advance(self, num_images: int) -> None:
        """One step is done."""

    def end_epoch(self, metrics: EpochMetrics, num_epochs: int) -> None:
        """One epoch is done."""

    def close(self) -> None:
        """Training ends, in whatever way."""
