"""What a measurement may use: a budget, seeds, and trainings that statements and topics share."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from convatlas.experiments.engine.request_key import check_is_of, key_of
from convatlas.experiments.engine.worker_pool import WorkerPool
from convatlas.runs.run import RECORD, Run, load_run
from convatlas.training import Progress, Request, train_or_resume

K = TypeVar("K")


class Budget(enum.StrEnum):
    """What measuring a topic may take."""

    QUICK = "quick"
    """Two cores, the embedded digits, no network access."""
    FULL = "full"
    """The paper's own setting, for a GPU."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a statement is measured with."""

    budget: Budget
    seeds: tuple[int, ...]
    folder: Path
    """For run folders. Statements and topics share them: the same training is done once."""
    progress: Progress = field(default_factory=Progress)
    workers: WorkerPool = field(default_factory=WorkerPool)
    """For trainings in parallel."""
    on_training_end: Callable[[], None] = lambda: None
    """Called after each training, in any thread."""

    @property
    def quick(self) -> bool:
        """Whether two cores must do."""
        return self.budget is Budget.QUICK

    def train(self, request: Request) -> Run:
        """The finished run of this request, as `convatlas.train` gives it; trained only if there is none yet.

        Raises:
            UserError: the run that is there is not what is asked for today; or as `convatlas.train` raises it.
        """
        folder = self._folder_of(request)
        new = not is_finished(folder)
        run = train_or_resume(request, folder, self.progress)
        if new:
            self.on_training_end()
        return run

    def train_all(self, requests: Iterable[Request]) -> None:
        """Train in parallel what is not finished yet; `train` then returns each run at once."""
        folders = {self._folder_of(request): request for request in requests}
        jobs = [(request, folder) for folder, request in folders.items() if not is_finished(folder)]
        self.workers.train(jobs, self.on_training_end)

    def train_seeds(self, requests: Mapping[K, Callable[[int], Request]]) -> dict[K, list[Run]]:
        """The finished runs of several networks, one for each seed, in the order of the seeds.

        Args:
            requests: for each network, what makes the request of a seed.
        """
        made = {key: [request(seed) for seed in self.seeds] for key, request in requests.items()}
        self.train_all(one for of_seed in zip(*made.values(), strict=True) for one in of_seed)
        return {key: [self.train(one) for one in each] for key, each in made.items()}

    def _folder_of(self, request: Request) -> Path:
        """Where the run of this request lies, or will.

        Raises:
            UserError: another run lies there; see `check_is_of`.
        """
        folder = self.folder / f"{request.network}-{key_of(request)}"
        if (folder / RECORD).exists():
            check_is_of(load_run(folder), request)
        return folder


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a run whose training has ended."""
    return (folder / RECORD).exists() and load_run(folder).is_finished
