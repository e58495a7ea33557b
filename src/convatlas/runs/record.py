"""`run.json`: how a model was trained, so that the training can be resumed, repeated and judged."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from convatlas.data.images import Decoding
from convatlas.errors import UserError, check_within
from convatlas.files.sealed_json import sealed_json
from convatlas.files.typed_json import decoded, encoded
from convatlas.formatting import plural
from convatlas.recipe import Recipe
from convatlas.runs.options import ClassWeights, Distillation, Execution, InitFrom, Runtime, Validation
from convatlas.spec import Scale

FORMAT = 3
"""Formats 1 and 2 held the model's part too, see `models.earlier`."""


@dataclass(frozen=True, kw_only=True)
class TrainingResults:
    """What a finished training came to, beside the model."""

    train_images: int
    skipped_images: int
    """Unusable ones, with `skip_bad`."""
    unused_files: int = 0
    """Of an image folder, what is no image or not used, as `Dataset.unused` names it; older records do not say."""
    epochs: int
    """Those that were trained: with `patience` or `stop_at_error`, they may be fewer than the recipe's."""
    best_epoch: int | None
    """The one whose weights these are, with `Validation`; 0: those of the fitted head, before the first."""
    seconds: float
    """Of training, interruptions not counted."""

    def __post_init__(self) -> None:
        check_within(self, seconds=(0, 1e12))


@dataclass(frozen=True, kw_only=True)
class Record:
    """What `run.json` says of a training: all that it takes to resume or to repeat it."""

    data: str
    """What `data.find` brings the data set back from; where it lies now, if `resume` was told so."""
    seed: int
    recipe: Recipe
    """As it was run: with the epochs, batch size and learning rate that were asked for."""
    scale: Scale | None
    """What the spec was made with; None in records of format 1 and where a spec or a recipe of one's own was given,
    which no command repeats."""
    class_weights: ClassWeights | None = None
    validation: Validation | None = None
    stop_at_error: float | None = None
    """A fraction: training ends with the first epoch whose training error is at most this. None: with the last, or by
    `Validation.patience`."""
    init_from: InitFrom | None = None
    fits_head: bool = False
    """Whether the new head is fitted to the features of the training images before the first epoch; earlier versions
    began with a random one."""
    keeps_statistics: bool = False
    """Whether batch normalization keeps the statistics that the weights came with."""
    distillation: Distillation | None = None
    runtime: Runtime
    """With the device that was chosen."""
    execution: Execution
    is_tuned: bool
    """Whether `execution` is final: measured to be fastest, or to be taken as it is."""
    num_processes: int = 1
    """How many trained together."""
    decoding: tuple[Decoding, ...] = ()
    """What training saw of its images: when the run began, and whenever it was resumed on them in another way. Empty in
    records of earlier versions."""
    metrics_sha256: str | None = None
    """Of `metrics.jsonl` when all epochs are trained; None before, and in records of earlier versions."""
    results: TrainingResults | None = None
    """None until the training is finished."""
    machine: str = field(default_factory=platform.machine)

    def __post_init__(self) -> None:
        check_within(self, stop_at_error=(0, 1))
        if self.results is None:
            return
        epochs, best = self.results.epochs, self.results.best_epoch
        if not 1 <= epochs <= self.recipe.epochs:
            raise UserError(f"it contradicts itself: {epochs} of {plural(self.recipe.epochs, 'epoch')} were trained")
        if best is not None and not (0 if self.fits_head else 1) <= best <= epochs:
            raise UserError(f"it contradicts itself: the best of {plural(epochs, 'epoch')} is epoch {best}")

    def to_json(self) -> bytes:
        """The content of `run.json`."""
        return sealed_json({"format": FORMAT, **encoded(self)})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """The record of a JSON object.

        Raises:
            MalformedJsonError, UserError: it is not valid.
        """
        return decoded(cls, {name: value for name, value in values.items() if name != "format"})

    @property
    def device(self) -> str:
        """The kind of device that the training runs on.

        Raises:
            UserError: the record names none.
        """
        if self.runtime.device is None:
            raise UserError("the record names no device")
        return self.runtime.device
