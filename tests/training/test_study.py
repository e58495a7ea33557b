"""Who trains which combination: each has one owner, and those of stopped, failed and lost workers are free again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from convatlas.training.storage import opened_storage
from convatlas.training.study import Study

GRID = {"lr": (1e-3, 1e-2, 1e-1), "batch_size": (32, 64)}
LOST_AFTER_S = 30


@contextmanager
def worker(url: str) -> Iterator[Study]:
    """Each has a connection of its own, as if in another process."""
    with opened_storage(url) as storage:
        yield Study(storage, "sweep", GRID, lost_after_s=LOST_AFTER_S)


def let_time_pass(storage: RDBStorage, seconds: int) -> None:
    """Nobody was seen for so long."""
    heartbeats = sqlalchemy.table("trial_heartbeats", sqlalchemy.column("heartbeat", sqlalchemy.DateTime))
    earlier = sqlalchemy.func.now() - sqlalchemy.literal(f"{seconds} s").cast(sqlalchemy.Interval)
    if storage.engine.name == "sqlite":
        earlier = sqlalchemy.func.datetime("now", f"-{seconds} seconds")
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.update(heartbeats).values(heartbeat=earlier))


def test_combinations_come_in_the_order_of_the_grid_and_equal_ones_once(sqlite: str) -> None:
    with opened_storage(sqlite) as storage:
        study = Study(storage, "sweep", {"lr": (0.5, 0.1, 0.5), "epochs": (1,)}, lost_after_s=LOST_AFTER_S)
        assert study.combinations == [{"lr": 0.5, "epochs": 1}, {"lr": 0.1, "epochs": 1}]
        assert [study.claim().place, study.claim().place] == [0, 1]
        assert study.claim() is None


@pytest.mark.slow
def test_each_combination_is_trained_once_however_many_workers_come_at_once(shared_storage: str) -> None:
    start = Barrier(3, timeout=60)

    def work(number: int) -> list[int]:
        start.wait()
        with worker(shared_storage) as study:
            claimed = []
            while (claim := study.claim()) is not None:
                claimed.append(claim.place)
                claim.complete(number, "images")
            return claimed

    with ThreadPoolExecutor(3) as workers:
        claimed = [place for places in workers.map(work, range(3)) for place in places]
    assert sorted(claimed) == list(range(6))
    with worker(shared_storage) as study:
        assert study.is_done()
        assert sorted(study.accuracies()) == list(range(6))
        trials = study.optuna.get_trials(states=[TrialState.COMPLETE])
        assert len(trials) == 6


def test_what_a_worker_gives_up_is_free_and_what_cannot_be_trained_is_not(sqlite: str) -> None:
    with worker(sqlite) as first, worker(sqlite) as second:
        given_up, left_out = first.claim(), second.claim()
        given_up.give_up()
        left_out.leave_out("it diverges")
        assert second.free() == [0, 2, 3, 4, 5]
        assert first.left_out() == {1: "it diverges"}


def test_a_worker_that_is_not_seen_for_long_is_lost_and_changes_nothing_when_it_comes_back(shared_storage: str) -> None:
    with worker(shared_storage) as first, worker(shared_storage) as second, opened_storage(shared_storage) as storage:
        lost = first.claim()
        let_time_pass(storage, LOST_AFTER_S - 10)
        [awaited] = second.free_lost()
        assert (awaited.place, round(awaited.silence_s / 10)) == (0, 2)
        assert "(process " in awaited.worker
        let_time_pass(storage, LOST_AFTER_S + 10)
        assert second.free_lost() == []
        again = second.claim()
        assert again.place == 0
        lost.complete(0.1, "images")
        lost.leave_out("it diverges")
        assert first.accuracies() == first.left_out() == {}
        again.complete(0.9, "images")
        assert first.accuracies() == {0: 0.9}


def test_a_worker_shows_that_it_lives_while_it_trains(sqlite: str) -> None:
    with opened_storage(sqlite) as storage, worker(sqlite) as other:
        claim = Study(storage, "sweep", GRID, lost_after_s=0.1).claim()
        let_time_pass(storage, LOST_AFTER_S - 10)
        with claim.heartbeats():
            while other.free_lost()[0].silence_s > 10:
                pass


def test_the_time_of_a_worker_that_was_never_seen_begins_when_another_looks(sqlite: str) -> None:
    with worker(sqlite) as study, opened_storage(sqlite) as storage:
        # Killed right after its claim.
        trial = create_trial(state=TrialState.RUNNING, params=dict(study.combinations[0]), distributions=study._choices)
        study.optuna.add_trial(trial)
        assert [one.silence_s for one in study.free_lost()] == [0]
        let_time_pass(storage, LOST_AFTER_S + 10)
        assert study.free_lost() == []
        assert study.free() == list(range(6))


def test_where_no_other_worker_can_be_all_that_is_trained_is_free(sqlite: str) -> None:
    with worker(sqlite) as killed, worker(sqlite) as study:
        for _ in range(3):
            killed.claim()
        killed.claim().complete(0.5, "images")
        study.free_all()
        assert study.free() == [0, 1, 2, 4, 5]


def test_trials_of_other_values_are_nobodys(sqlite: str) -> None:
    with worker(sqlite) as study:
        study.optuna.add_trial(create_trial(state=TrialState.RUNNING))
        assert study.free() == list(range(6))
        assert study.free_lost() == []
