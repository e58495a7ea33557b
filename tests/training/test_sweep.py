"""Sweeps: every combination is tried once, judged on what is held out, and the best trained on all."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import convatlas as ca
from convatlas.errors import UserError
from convatlas.runs.run import Run
from convatlas.training import Interrupted, Progress, Request
from convatlas.training.sweep import best_accuracy, parsed, sweep

REQUEST = Request(network="lenet5-modern", epochs=1, autotune=False)
GRID: Mapping[str, Sequence[float]] = {"lr": (1e-6, 4e-3), "batch_size": (128,)}


class Said(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def swept(folder: Path, *, progress: Progress | None = None, study: str | None = None) -> Run:
    return sweep(REQUEST, GRID, out=folder, study=study, progress=progress)


def test_the_best_combination_is_trained_once_more_on_all(tmp_path: Path) -> None:
    said = Said()
    run = swept(tmp_path / "sweep", progress=said)
    assert run.record.recipe.lr == 4e-3
    assert not run.record.hold_out
    assert run.results.train_images == 1442
    trials = [ca.load(folder) for folder in sorted((tmp_path / "sweep").glob("lr=*"))]
    assert [trial.record.recipe.lr for trial in trials] == [4e-3, 1e-6]
    # The test images are read once, by the run that stays.
    assert all(trial.record.hold_out and trial.record.results is None for trial in trials)
    assert best_accuracy(trials[0]) > best_accuracy(trials[1])
    assert len([line for line in said.lines if line.startswith("trial ")]) == 2


def test_a_sweep_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    class StopInSecondTrial(Said):
        def advance(self, num_images: int) -> None:
            if sum(line.startswith("trial ") for line in self.lines) == 2:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        swept(tmp_path / "sweep", progress=StopInSecondTrial())
    said = Said()
    run = swept(tmp_path / "sweep", progress=said)
    assert run.results.weights_sha256 == swept(tmp_path / "other").results.weights_sha256
    # Finished, it trains nothing more.
    again = Said()
    assert swept(tmp_path / "sweep", progress=again).results == run.results
    assert not [line for line in again.lines if line.startswith("trial ")]


def test_machines_share_a_study_by_its_address(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'shared.db'}"
    first, second = Said(), Said()
    swept(tmp_path / "one" / "sweep", study=address, progress=first)
    run = swept(tmp_path / "two" / "sweep", study=address, progress=second)
    assert not [line for line in second.lines if line.startswith("trial ")]
    assert run.record.recipe.lr == 4e-3


def test_a_trial_that_cannot_be_trained_loses(tmp_path: Path) -> None:
    run = sweep(REQUEST, {"lr": (1e30, 1e-3)}, out=tmp_path / "sweep")
    assert run.record.recipe.lr == 1e-3


def test_where_none_can_be_trained_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no combination of lr could be trained"):
        sweep(REQUEST, {"lr": (1e30,)}, out=tmp_path / "sweep")


def test_words_become_values() -> None:
    assert parsed(["lr=1e-3,3e-3", "batch-size=64,128"]) == {"lr": (1e-3, 3e-3), "batch_size": (64, 128)}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("rl=1", "there is no number to sweep 'rl'; did you mean lr"),
        ("lr", "--sweep lr has no list of numbers; write it as lr=1e-3,3e-3,1e-2"),
        ("lr=", "has no list of numbers"),
        ("batch_size=1.5", "has no list of numbers"),
    ],
)
def test_a_word_that_says_nothing_is_one_line(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parsed([word])
