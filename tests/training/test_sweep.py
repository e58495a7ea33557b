"""Sweeps: every combination is tried once, compared by validation accuracy, and the best trained on all images."""

import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files import lock
from convatlas.runs.options import Runtime, Validation
from convatlas.runs.run import Run, load_run
from convatlas.spec import Scale
from convatlas.torchrun import Worker
from convatlas.training import Progress, Request, Stopped, train_request
from convatlas.training.storage import opened_storage
from convatlas.training.study import Study
from convatlas.training.sweep import LOST_AFTER_S, best_accuracy, parsed, sweep, varied

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

    @property
    def waiting(self) -> list[str]:
        return [line for line in self.lines if line.startswith("waiting")]


class Waiting(Said):
    """Does something as soon as the sweep waits for others."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act = act

    def say(self, line: str) -> None:
        super().say(line)
        if line.startswith("waiting"):
            self.act()


def swept(folder: Path, *, progress: Progress | None = None, storage: str | None = None) -> Run:
    return sweep(REQUEST, GRID, out=folder, storage=storage, progress=progress)


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of a sweep that nothing disturbed."""
    return swept(tmp_path_factory.mktemp("undisturbed") / "sweep")


def test_the_best_combination_is_trained_once_more_on_all_images(best: Run) -> None:
    assert best.record.recipe.lr == 4e-3
    assert best.record.validation is None
    assert best.results.train_images == 1442
    assert load_run(best.folder).card == best.card
    trials = [load_run(folder) for folder in sorted((best.folder / "trials").glob("lr=*"))]
    assert [trial.record.recipe.lr for trial in trials] == [4e-3, 1e-6]
    # The test images are read once, by the returned run.
    assert all(trial.record.validation == Validation() and trial.record.results is None for trial in trials)
    assert all(trial.card.score is None for trial in trials)
    assert best_accuracy(trials[0]) > best_accuracy(trials[1])


class EndInSecondTrial(Said):
    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error = error

    def advance(self, num_images: int) -> None:
        if len(self.trials) == 2:
            if self.error is not None:
                raise self.error
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("error", "is_shared"),
    [
        pytest.param(None, False, marks=pytest.mark.slow),
        pytest.param(None, True, marks=pytest.mark.slow),
        (OSError("no space"), True),
    ],
    ids=["stop", "stop-shared", "error-shared"],
)
def test_a_sweep_that_ended_early_continues_where_it_was(
    error: BaseException | None, is_shared: bool, best: Run, sqlite: str, tmp_path: Path
) -> None:
    storage = sqlite if is_shared else None
    with pytest.raises(Stopped if error is None else type(error)):
        swept(tmp_path / "sweep", storage=storage, progress=EndInSecondTrial(error))
    said = Said()
    run = swept(tmp_path / "sweep", storage=storage, progress=said)
    # What was begun is ended too, and not left out; nobody waits for it.
    assert said.trials == ["trial 2 of 2: lr=0.004-batch_size=128"]
    assert not said.waiting
    assert run.card.weights_sha256 == best.card.weights_sha256


def test_a_sweep_that_is_done_trains_nothing_more(best: Run) -> None:
    again = Said()
    finished = swept(best.folder, progress=again)
    assert (finished.results, finished.card) == (best.results, best.card)
    assert not again.trials
    # Other values would be compared with those that are there.
    with pytest.raises(UserError, match=r"was started with epochs 1, not 2; sweep .*; choose a new place with `out`"):
        sweep(replace(REQUEST, epochs=2), {"lr": (1e-3,)}, out=best.folder)
    with pytest.raises(UserError, match="was started with data digits, not mnist; choose"):
        sweep(replace(REQUEST, data="mnist"), GRID, out=best.folder)


@contextmanager
def other_worker(url: str) -> Iterator[Study]:
    """Another machine, whose folder has the same name."""
    with opened_storage(url) as storage:
        yield Study(storage, "sweep", GRID, lost_after_s=LOST_AFTER_S)


def test_workers_that_come_one_after_another_find_the_same(best: Run, sqlite: str, tmp_path: Path) -> None:
    first, second = Said(), Said()
    swept(tmp_path / "one" / "sweep", storage=sqlite, progress=first)
    run = swept(tmp_path / "two" / "sweep", storage=sqlite, progress=second)
    assert first.trials == ["trial 1 of 2: lr=1e-06-batch_size=128", "trial 2 of 2: lr=0.004-batch_size=128"]
    assert not second.trials
    assert run.card.weights_sha256 == best.card.weights_sha256


@pytest.mark.slow
def test_a_worker_waits_for_the_others_and_says_once_for_what(best: Run, sqlite: str, tmp_path: Path) -> None:
    with other_worker(sqlite) as other:
        claim = other.claim()
        assert claim is not None
        said = Waiting(lambda: claim.complete(0.01, best.card.provenance.data_checksum))
        run = swept(tmp_path / "sweep", storage=sqlite, progress=said)
    assert said.trials == ["trial 2 of 2: lr=0.004-batch_size=128"]
    [line] = said.waiting
    assert re.fullmatch(
        r"waiting for lr=1e-06-batch_size=128 on .+ \(process \d+\), seen \d+ s ago; "
        "a worker counts as lost after 30 s",
        line,
    )
    assert run.card.weights_sha256 == best.card.weights_sha256


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait(number: signal.Signals, sqlite: str, tmp_path: Path) -> None:
    with other_worker(sqlite) as other:
        while other.claim() is not None:
            pass
        with pytest.raises(Stopped) as stopped:
            swept(tmp_path / "sweep", storage=sqlite, progress=Waiting(lambda: signal.raise_signal(number)))
    assert stopped.value.signal == number
    assert not (tmp_path / "sweep").exists()


def test_of_equal_combinations_the_first_of_the_grid_is_the_best(sqlite: str, tmp_path: Path) -> None:
    with other_worker(sqlite) as other:
        first, second = other.claim(), other.claim()
        assert first is not None
        assert second is not None
        second.complete(0.5, "")
        first.complete(0.5, "")
    assert swept(tmp_path / "sweep", storage=sqlite).record.recipe.lr == 1e-6


def test_what_another_worker_left_out_is_said(best: Run, sqlite: str, tmp_path: Path) -> None:
    said = Said()
    with other_worker(sqlite) as other:
        claim = other.claim()
        assert claim is not None
        claim.leave_out("the loss is not a finite number")
    swept(tmp_path / "sweep", storage=sqlite, progress=said)
    assert "lr=1e-06-batch_size=128 is left out: the loss is not a finite number" in said.lines


def test_workers_with_other_images_of_that_name_are_not_compared(sqlite: str, tmp_path: Path) -> None:
    with other_worker(sqlite) as other:
        claim = other.claim()
        assert claim is not None
        claim.complete(0.5, "contents:other")
        with pytest.raises(UserError, match="digits holds other images here than where other trials were trained"):
            swept(tmp_path / "sweep", storage=sqlite)
        assert other.free() == [1]


def test_in_one_folder_the_best_is_trained_by_one_worker_at_a_time(best: Run, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    shutil.copytree(best.folder / "trials", folder / "trials")
    with ExitStack() as other:

        class Last(Waiting):
            def say(self, line: str) -> None:
                if line.startswith("best"):
                    other.enter_context(lock(folder / "trials"))
                super().say(line)

        said = Last(other.close)
        run = swept(folder, progress=said)
    assert said.waiting == [f"waiting: another process is writing to {folder / 'trials'} now"]
    assert run.card.weights_sha256 == best.card.weights_sha256


@pytest.mark.slow
def test_a_trial_that_another_process_trains_is_not_left_out(best: Run, tmp_path: Path) -> None:
    with ExitStack() as other:

        class First(Waiting):
            def say(self, line: str) -> None:
                if line == "trial 1 of 2: lr=1e-06-batch_size=128":
                    other.enter_context(lock(tmp_path / "sweep" / "trials" / "lr=1e-06-batch_size=128"))
                super().say(line)

        said = First(other.close)
        run = swept(tmp_path / "sweep", progress=said)
    assert len(said.waiting) == 1
    assert not [line for line in said.lines if "left out" in line]
    assert run.card.weights_sha256 == best.card.weights_sha256


@pytest.mark.slow
def test_values_that_differ_in_their_last_digits_have_folders_of_their_own(tmp_path: Path) -> None:
    sweep(REQUEST, {"lr": (0.00412345671, 0.00412345672, 0.004)}, out=tmp_path / "sweep")
    assert {path.name for path in (tmp_path / "sweep" / "trials").glob("lr=*")} == {
        "lr=0.00412345671", "lr=0.00412345672", "lr=0.004",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("storage", "request_", "message"),
    [
        ("postgresql+psycopg:///name?host=/no/such/folder", REQUEST, "cannot be used: .*No such file or directory"),
        ("nonsense", REQUEST, "`storage` is not the URL of a database"),
        (None, replace(REQUEST, runtime=Runtime(device="tpu")), "there is no device 'tpu' on this machine"),
    ],
)
def test_a_sweep_that_cannot_begin_leaves_nothing(
    storage: str | None, request_: Request, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        sweep(request_, GRID, out=tmp_path / "sweep", storage=storage)
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_is_not_for_processes_that_train_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "from_env", lambda: Worker(world_size=2, local_world_size=2))
    with pytest.raises(UserError, match=r"a sweep trains with one process; .* without torchrun"):
        swept(tmp_path / "sweep")


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
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped):
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
