"""Sweeps: every combination is tried once, compared by validation accuracy, and the best trained on all images."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.runs.options import Runtime, Validation
from convatlas.runs.run import Run, load_run
from convatlas.spec import Scale
from convatlas.training import Interrupted, Progress, Request, train_request
from convatlas.training.sweep import best_accuracy, parsed, sweep, varied

REQUEST = Request(network="lenet5-modern", epochs=1, runtime=Runtime(autotune=False))
GRID: Mapping[str, Sequence[float]] = {"lr": (1e-6, 4e-3), "batch_size": (128,)}


class Said(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @property
    def trials(self) -> list[str]:
        """The lines that begin one."""
        return [line for line in self.lines if line.startswith("trial ")]


def swept(folder: Path, *, progress: Progress | None = None, storage: str | None = None) -> Run:
    return sweep(REQUEST, GRID, out=folder, storage=storage, progress=progress)


def test_the_best_combination_is_trained_once_more_on_all_images(tmp_path: Path) -> None:
    said = Said()
    run = swept(tmp_path / "sweep", progress=said)
    assert run.record.recipe.lr == 4e-3
    assert run.record.validation is None
    assert run.results.train_images == 1442
    assert run.folder == tmp_path / "sweep"
    assert load_run(tmp_path / "sweep").card == run.card
    trials = [load_run(folder) for folder in sorted((tmp_path / "sweep" / "trials").glob("lr=*"))]
    assert [trial.record.recipe.lr for trial in trials] == [4e-3, 1e-6]
    # The test images are read once, by the returned run.
    assert all(trial.record.validation == Validation() and trial.record.results is None for trial in trials)
    assert all(trial.card.score is None for trial in trials)
    assert best_accuracy(trials[0]) > best_accuracy(trials[1])
    assert len(said.trials) == 2


class Killed(BaseException):
    """Stands for the end of the process: nothing is noted any more."""


def kill() -> None:
    raise Killed


@pytest.mark.parametrize(
    ("end", "seen"), [(lambda: os.kill(os.getpid(), signal.SIGTERM), Interrupted), (kill, Killed)], ids=["stop", "kill"]
)
def test_a_sweep_that_ended_early_continues_where_it_was(
    end: Callable[[], None], seen: type[BaseException], tmp_path: Path
) -> None:
    class EndInSecondTrial(Said):
        def advance(self, num_images: int) -> None:
            if len(self.trials) == 2:
                end()

    with pytest.raises(seen):
        swept(tmp_path / "sweep", progress=EndInSecondTrial())
    said = Said()
    run = swept(tmp_path / "sweep", progress=said)
    # What was begun is ended too, and not left out.
    assert said.trials == ["trial 2 of 2: lr=1e-06-batch_size=128"]
    assert run.card.weights_sha256 == swept(tmp_path / "other").card.weights_sha256
    # Finished, it trains nothing more.
    again = Said()
    finished = swept(tmp_path / "sweep", progress=again)
    assert (finished.results, finished.card) == (run.results, run.card)
    assert not again.trials
    # Other values would be compared with those that are there.
    with pytest.raises(UserError, match=r"was started with epochs 1, not 2; sweep .*; choose a new place with `out`"):
        sweep(replace(REQUEST, epochs=2), {"lr": (1e-3,)}, out=tmp_path / "sweep")
    with pytest.raises(UserError, match="was started with data digits, not mnist; choose"):
        sweep(replace(REQUEST, data="mnist"), GRID, out=tmp_path / "sweep")


def test_machines_share_a_study_by_its_address(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'shared.db'}"
    first, second = Said(), Said()
    swept(tmp_path / "one" / "sweep", storage=address, progress=first)
    run = swept(tmp_path / "two" / "sweep", storage=address, progress=second)
    assert not second.trials
    assert run.record.recipe.lr == 4e-3


def test_a_sweep_takes_no_folder_that_holds_something(tmp_path: Path) -> None:
    train_request(REQUEST, tmp_path / "run", Progress())
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "study.db").touch()
    (tmp_path / "file").touch()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for name, message in (
        ("run", "holds a run already"),
        ("earlier", "holds a sweep of an earlier convatlas, its run in .*best; choose a new folder"),
        ("file", "is a file; a run needs a folder"),
        ("", "has other files in it"),
    ):
        with pytest.raises(UserError, match=message):
            swept(tmp_path / name)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_run_in_the_folder_of_an_unfinished_sweep_is_not_its_best(tmp_path: Path) -> None:
    class Impatient(Progress):
        def advance(self, num_images: int) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        swept(tmp_path, progress=Impatient())
    train_request(REQUEST, tmp_path, Progress())
    with pytest.raises(UserError, match="holds a run already, and its sweep is not done"):
        swept(tmp_path)


def test_a_trial_that_diverges_is_not_the_best(tmp_path: Path) -> None:
    said = Said()
    run = sweep(REQUEST, {"lr": (1e30, 1e-3)}, out=tmp_path / "sweep", progress=said)
    assert run.record.recipe.lr == 1e-3
    assert any(line.startswith("lr=1e+30 is left out: the ") for line in said.lines)


def test_a_sweep_in_which_every_trial_diverges_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no combination of lr could be trained"):
        sweep(REQUEST, {"lr": (1e30,)}, out=tmp_path / "sweep")


def test_words_become_values() -> None:
    assert parsed(["lr=1e-3,3e-3", "batch-size=64,128"]) == {"lr": (1e-3, 3e-3), "batch_size": (64, 128)}


def test_values_go_into_the_request_and_its_scale() -> None:
    request = replace(REQUEST, scale=Scale(depth=2.0))
    values = {"lr": 1e-3, "epochs": 7, "width": 0.5, "resolution": 32, "phi": 1.0}
    scale = Scale(width=0.5, depth=2.0, resolution=32, phi=1.0)
    assert varied(request, values) == replace(request, lr=1e-3, epochs=7, scale=scale)


def test_networks_of_other_widths_are_compared_by_the_requests_own_validation(tmp_path: Path) -> None:
    validation = Validation(val_split=0.2, patience=5)
    run = sweep(replace(REQUEST, validation=validation), {"width": (0.25, 1.0)}, out=tmp_path / "sweep")
    trials = [load_run(folder) for folder in sorted((tmp_path / "sweep" / "trials").glob("width=*"))]
    assert [trial.record.scale for trial in trials] == [Scale(width=width, resolution=28) for width in (0.25, 1.0)]
    assert [trial.record.validation for trial in trials] == [validation] * 2
    assert best_accuracy(trials[1]) > best_accuracy(trials[0])
    # The best is validated only because that was asked for.
    assert run.record.validation == validation
    assert run.spec == trials[1].spec


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("rl=1", "there is no number to sweep 'rl'; did you mean lr"),
        ("lr", "'lr' is not a list of values to sweep; write it as lr=1e-3,3e-3,1e-2"),
        ("lr=", "'lr=' is not a list of values to sweep"),
        ("batch_size=1.5", "'batch_size=1.5' is not a list of values to sweep"),
    ],
)
def test_a_word_that_is_no_list_of_values_is_a_one_line_error(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parsed([word])
    assert len(str(error.value).splitlines()) == 1
