"""The networks that an experiment compares, before and after their training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from convatlas.experiments.engine.rates import ChosenRate
from convatlas.runs.run import Run, read_metrics
from convatlas.training import Request


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the networks that are compared."""

    request: Callable[[int], Request]
    """What trains it with a seed."""
    rates: tuple[float, ...] = ()
    """Learning rates to choose from, see `rates_from`; empty: the request's own is used."""

    def requests(self, seeds: tuple[int, ...], chosen: ChosenRate | None) -> list[Request]:
        """One for each seed, with the chosen rate."""
        requests = [self.request(seed) for seed in seeds]
        return requests if chosen is None else [replace(request, lr=chosen.rate) for request in requests]


@dataclass(frozen=True)
class TrainedArm:
    """One of the networks that are compared, trained once with each seed."""

    runs: tuple[Run, ...]
    chosen: ChosenRate | None
    """How its learning rate was chosen; None: it was given."""

    @cached_property
    def predictions(self) -> npt.NDArray[np.uint8]:
        """(seeds, images): the class that it predicts for each test image."""
        return np.stack([run.evaluate().predictions.numpy().astype(np.uint8) for run in self.runs])

    @cached_property
    def labels(self) -> npt.NDArray[np.uint8]:
        """(images,): the classes of the test images."""
        return self.runs[0].load_data().test.labels.astype(np.uint8)

    @property
    def training_errors(self) -> list[float]:
        """In percent, for each seed: on the training images of the last epoch, as they were augmented."""
        return [100 * (1 - read_metrics(run)[-1]["accuracy"]) for run in self.runs]

    @property
    def precision(self) -> str:
        """What its products were computed in while it was trained: each training takes what is fastest."""
        found = {"bfloat16" if run.record.execution.bfloat16 else "float32" for run in self.runs}
        return " and ".join(sorted(found))
