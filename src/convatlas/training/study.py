"""The study of a sweep: who trains which combination of values, and what came of it.

A worker claims a combination by adding a trial to the study, which the database numbers. Of the trials of one
combination that run or are done, the first owns it, so that each has one owner however many workers come at once. A
trial whose worker stopped, failed or is lost counts no more, and its combination is free again.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from convatlas.training.storage import silence_s

WORKER, REASON, DATA = "worker", "reason", "data"
"""The attributes of a trial: who trains it, why it is left out, and the checksum of its data set."""
NUM_BEATS = 6
"""Heartbeats within the time after which a worker counts as lost."""
DONE = (TrialState.COMPLETE, TrialState.PRUNED)

Values = Mapping[str, Any]


class Lease:
    """A combination that this worker may train."""

    def __init__(self, storage: RDBStorage, trial_id: int, place: int, *, interval_s: float) -> None:
        """
        Args:
            place: in `Study.combinations`.
            interval_s: between heartbeats.
        """
        self._storage, self._trial_id, self._interval_s = storage, trial_id, interval_s
        self.place = place
        storage.record_heartbeat(trial_id)

    @contextmanager
    def heartbeats(self) -> Iterator[None]:
        """Show the other workers that this one lives."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._interval_s):
                # A database that is away for a moment may be back for the next one.
                with suppress(SQLAlchemyError, StorageInternalError):
                    self._storage.record_heartbeat(self._trial_id)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def complete(self, accuracy: float, data: str) -> None:
        """
        Args:
            accuracy: on validation images.
            data: the checksum of the data set.
        """
        self._end(TrialState.COMPLETE, [accuracy], (DATA, data))

    def leave_out(self, reason: str) -> None:
        """It cannot be trained, by nobody."""
        self._end(TrialState.PRUNED, None, (REASON, reason))

    def give_up(self) -> None:
        """Let another worker train it, or this one later."""
        # A database that is away finds out by itself: the heartbeats end.
        with suppress(SQLAlchemyError, StorageInternalError):
            self._end(TrialState.FAIL)

    def _end(self, state: TrialState, values: list[float] | None = None, *attributes: tuple[str, str]) -> None:
        # Nothing changes if this worker was silent for so long that another one took over.
        with suppress(UpdateFinishedTrialError):
            for name, value in attributes:
                self._storage.set_trial_user_attr(self._trial_id, name, value)
            self._storage.set_trial_state_values(self._trial_id, state, values)


@dataclass(frozen=True)
class Awaited:
    """A combination that another worker trains."""

    place: int
    """In `Study.combinations`."""
    worker: str
    silence_s: float
    """Since that worker was last seen."""


class Study:
    """A grid of values in a database, whose combinations workers claim."""

    def __init__(
        self, storage: RDBStorage, name: str, grid: Mapping[str, Sequence[float]], *, lost_after_s: float
    ) -> None:
        """
        Args:
            lost_after_s: seconds without a heartbeat after which a worker counts as lost.
        """
        self._storage, self.lost_after_s = storage, lost_after_s
        self.optuna = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        self._id = storage.get_study_id_from_name(name)
        self._choices: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(tuple(dict.fromkeys(values))) for name, values in grid.items()
        }
        self.combinations: list[Values] = [
            dict(zip(grid, values, strict=True)) for values in product(*map(dict.fromkeys, grid.values()))
        ]
        """All of them, in the grid's order."""

    def owners(self) -> dict[int, FrozenTrial]:
        """The trial of each combination that is trained or done, by its place in `combinations`."""
        owners: dict[int, FrozenTrial] = {}
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING, *DONE)):
            if trial.params in self.combinations:
                owners.setdefault(self.combinations.index(trial.params), trial)
        return owners

    def free(self) -> list[int]:
        """The places of those without an owner."""
        owners = self.owners()
        return [place for place in range(len(self.combinations)) if place not in owners]

    def is_done(self) -> bool:
        owners = self.owners()
        return len(owners) == len(self.combinations) and all(trial.state in DONE for trial in owners.values())

    def accuracies(self) -> dict[int, float]:
        """Those of the combinations that were trained, by their places."""
        return {place: float(trial.values[0]) for place, trial in self._owners_in(TrialState.COMPLETE).items()}

    def data(self) -> set[str]:
        """The checksums of the data sets that they were trained on; of one, unless the workers have different ones."""
        return {
            trial.user_attrs[DATA]
            for trial in self._owners_in(TrialState.COMPLETE).values()
            if DATA in trial.user_attrs
        }

    def left_out(self) -> dict[int, str]:
        """Why combinations cannot be trained, by their places."""
        return {place: trial.user_attrs.get(REASON, "") for place, trial in self._owners_in(TrialState.PRUNED).items()}

    def _owners_in(self, state: TrialState) -> dict[int, FrozenTrial]:
        return {place: trial for place, trial in self.owners().items() if trial.state is state}

    def claim(self) -> Lease | None:
        """The first free combination, which nobody else trains from now on; None: none is free."""
        while free := self.free():
            place = free[0]
            trial = create_trial(
                state=TrialState.RUNNING,
                params=dict(self.combinations[place]),
                distributions=self._choices,
                user_attrs={WORKER: f"{socket.gethostname()} (process {os.getpid()})"},
            )
            trial_id = self._storage.create_new_trial(self._id, trial)
            lease = Lease(self._storage, trial_id, place, interval_s=self.lost_after_s / NUM_BEATS)
            owner = self.owners().get(place)
            if owner is not None and owner.number == self._storage.get_trial_number_from_id(trial_id):
                return lease
            # Another worker was first.
            lease.give_up()
        return None

    def free_all(self) -> None:
        """Free what is being trained, where no other worker uses the study: whoever trained there was killed."""
        for trial_id, _ in self._running():
            self._free(trial_id)

    def free_lost(self) -> list[Awaited]:
        """Free what lost workers trained, and return what the others train."""
        awaited = []
        for trial_id, trial in self._running():
            silent = silence_s(self._storage, trial_id)
            if silent is None:
                # Claimed just now, or by a worker that was killed right then: its time runs from here.
                self._storage.record_heartbeat(trial_id)
            if silent is not None and silent > self.lost_after_s:
                self._free(trial_id)
            else:
                awaited.append((trial, silent or 0.0))
        owners = {trial.number: place for place, trial in self.owners().items()}
        return [
            Awaited(owners[trial.number], trial.user_attrs.get(WORKER, "another worker"), silent)
            for trial, silent in awaited
            if trial.number in owners
        ]

    def _running(self) -> list[tuple[int, FrozenTrial]]:
        trials = self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [(self._storage.get_trial_id_from_study_id_trial_number(self._id, one.number), one) for one in trials]

    def _free(self, trial_id: int) -> None:
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
