"""The learning rate is chosen for each network alike, by validation images that are held out of the training images.

One rate for all would favor the network that it suits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from convatlas.errors import UserError
from convatlas.files import read, write
from convatlas.files.sealed_json import sealed_json
from convatlas.files.typed_json import MAX_BYTES, as_file_error, decoded, parsed_object
from convatlas.runs.options import Validation
from convatlas.training import DivergedError, Progress, Request, checkpoint, train_or_resume
from convatlas.training.sweep import best_accuracy

EPOCHS = 2
"""Of a training that tries a rate."""
STEP = 10**0.5
"""Between one rate and the next."""
MAX_EXTENSIONS = 4
"""How often the range of rates goes on beyond an end that wins."""
TRIAL = "trial.json"
FORMAT = 1


def rates_from(base: float) -> tuple[float, ...]:
    """1, 3 and 10 times the base."""
    return base, beyond(base, 1), beyond(beyond(base, 1), 1)


def beyond(rate: float, sign: int) -> float:
    """The next rate, upwards (1) or downwards (-1)."""
    return float(f"{rate * STEP**sign:.2g}")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A short training with one rate."""

    rate: float
    accuracy: float
    """On the validation images, a fraction; 0 where the training diverged."""


@dataclass(frozen=True, kw_only=True)
class ChosenRate:
    """The rate with the best validation accuracy; of equal ones the lowest."""

    trials: tuple[Trial, ...]
    """In the order of their rates."""

    @classmethod
    def of(cls, accuracies: Mapping[float, float]) -> Self:
        """From the accuracy of each rate."""
        return cls(trials=tuple(Trial(rate=rate, accuracy=accuracies[rate]) for rate in sorted(accuracies)))

    @property
    def rate(self) -> float:
        """The one that was chosen."""
        return max(self.trials, key=lambda trial: trial.accuracy).rate

    @property
    def beyond(self) -> float | None:
        """The next rate to try, where one end of the range won; None where a rate between won."""
        if self.rate == self.trials[-1].rate:
            return beyond(self.rate, 1)
        return beyond(self.rate, -1) if self.rate == self.trials[0].rate else None

    def __str__(self) -> str:
        tried = ", ".join(f"{trial.rate:g}: {100 * trial.accuracy:.1f} %" for trial in self.trials)
        return f"{self.rate:g} (validation accuracy after {EPOCHS} epochs with {tried})"


def trial_request(request: Request, rate: float) -> Request:
    """What tries a rate for a training."""
    return replace(request, lr=rate, epochs=EPOCHS, validation=Validation())


def run_trial(request: Request, folder: Path) -> None:
    """What a worker does: train, and write the validation accuracy beside the run. The test images are not read."""
    if not (folder / TRIAL).exists():
        try:
            accuracy = best_accuracy(train_or_resume(request, folder, Progress(), evaluate_test=False))
        except DivergedError:
            accuracy = 0.0
        write(folder / TRIAL, sealed_json({"format": FORMAT, "accuracy": accuracy}))
    # Of a run whose test images are not read, training keeps it.
    checkpoint.remove(folder)


def is_tried(folder: Path) -> bool:
    """Whether the folder holds a trial that has ended, and no checkpoint."""
    return (folder / TRIAL).exists() and not checkpoint.exists(folder)


def read_accuracy(folder: Path) -> float:
    """
    Raises:
        UserError: the file is damaged.
    """
    path = folder / TRIAL
    try:
        with as_file_error(str(path)):
            return decoded(float, parsed_object(read(path, MAX_BYTES), FORMAT)["accuracy"], "accuracy")
    except (ValueError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged ({error}); remove {folder} to try that learning rate again") from error
