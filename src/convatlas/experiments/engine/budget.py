"""What a measurement may use: a budget, seeds, and trainings that statements and topics share."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convatlas.experiments.engine import rates
from convatlas.experiments.engine.arms import Arm, TrainedArm
from convatlas.experiments.engine.rates import ChosenRate
from convatlas.experiments.engine.request_key import check_is_of, key_of
from convatlas.experiments.engine.worker_pool import WorkerPool, train_if_finite
from convatlas.runs.run import RECORD, Run, load_run
from convatlas.training import Progress, Request, checkpoint, train_or_resume


class Budget(enum.StrEnum):
    """What measuring a topic may take."""

    QUICK = "quick"
    """Minutes on two cores; nothing is trained or downloaded."""
    STANDARD = "standard"
    """Hours on two cores; networks are trained on real images."""
    FULL = "full"
    """The papers' own settings, for a GPU."""

    def allows(self, needed: Budget) -> bool:
        """Whether it is that budget or a larger one."""
        order = list(Budget)
        return order.index(self) >= order.index(needed)


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
    def full(self) -> bool:
        """Whether the papers' own settings are asked for."""
        return self.budget is Budget.FULL

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
        self.workers.run(jobs, self.on_training_end)

    def train_if_finite(self, requests: Iterable[Request]) -> list[Run | None]:
        """Train in parallel what may diverge: the run of each request, None where the weights became no numbers."""
        folders = [(request, self._folder_of(request)) for request in requests]
        jobs = [job for job in folders if not is_finished(job[1])]
        self.workers.run(jobs, self.on_training_end, work=train_if_finite)
        return [load_run(folder) if is_finished(folder) else None for _, folder in folders]

    def train_arms(self, arms: Mapping[str, Arm]) -> dict[str, TrainedArm]:
        """Networks that are compared, trained once with each seed, each with the learning rate that is best for it."""
        chosen = self.choose_rates(arms)
        requests = {name: arm.requests(self.seeds, chosen.get(name)) for name, arm in arms.items()}
        # Seed by seed: what is stopped half-way has whole comparisons.
        self.train_all(one for of_seed in zip(*requests.values(), strict=True) for one in of_seed)
        return {name: TrainedArm(tuple(map(self.train, each)), chosen.get(name)) for name, each in requests.items()}

    def choose_rates(self, arms: Mapping[str, Arm]) -> dict[str, ChosenRate]:
        """The learning rate of each network that has rates to choose from.

        All are tried with seed 0. Where one end of a range wins, the range goes on beyond it.
        """
        found: dict[str, dict[float, float]] = {name: {} for name, arm in arms.items() if arm.rates}
        waiting = {name: arms[name].rates for name in found}
        for _ in range(1 + rates.MAX_EXTENSIONS):
            for (name, rate), accuracy in self._try_rates(arms, waiting).items():
                found[name][rate] = accuracy
            beyond = {name: ChosenRate.of(accuracies).beyond for name, accuracies in found.items()}
            waiting = {name: (rate,) for name, rate in beyond.items() if rate is not None}
        return {name: ChosenRate.of(accuracies) for name, accuracies in found.items()}

    def _try_rates(
        self, arms: Mapping[str, Arm], waiting: Mapping[str, tuple[float, ...]]
    ) -> dict[tuple[str, float], float]:
        """The validation accuracy of each network with each rate that waits, a fraction."""
        jobs = {}
        for name, each in waiting.items():
            for rate in each:
                request = rates.trial_request(arms[name].request(0), rate)
                jobs[name, rate] = request, self._folder_of(request)
        self.workers.run(
            [job for job in jobs.values() if not rates.is_tried(job[1])], self.on_training_end, work=rates.run_trial
        )
        return {key: rates.read_accuracy(folder) for key, (_, folder) in jobs.items()}

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
    """Whether the folder holds a run whose training has ended, and no checkpoint: who is killed at the very end leaves
    one, which resuming removes."""
    return (folder / RECORD).exists() and load_run(folder).is_finished and not checkpoint.exists(folder)
