"""Trainings in processes of their own: the same as alone, and stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from convatlas.errors import UserError
from convatlas.experiments.engine.budget import is_finished
from convatlas.experiments.engine.worker_pool import WorkerPool
from convatlas.files import lock
from convatlas.models.folder import WEIGHTS
from convatlas.runs.options import Runtime
from convatlas.runs.run import METRICS, load
from convatlas.training import Progress, Request, Stopped, train_request

has_signals = pytest.mark.skipif(sys.platform == "win32", reason="what Windows calls signals only kills")

STOPPED = """
import sys
from pathlib import Path
from convatlas.experiments.engine.worker_pool import WorkerPool
from convatlas.runs.options import Runtime
from convatlas.training import Request, Stopped

try:
    WorkerPool().run([
        (
            Request(network="lenet5-modern", epochs=EPOCHS, seed=seed, runtime=Runtime(autotune=False)),
            Path(sys.argv[1]) / str(seed),
        )
        for seed in range(3)
    ])
except Stopped as stop:
    sys.exit(128 + stop.signal)
"""


def short(seed: int, epochs: int = 1) -> Request:
    return Request(network="lenet5-modern", epochs=epochs, seed=seed, runtime=Runtime(autotune=False))


@pytest.fixture(scope="module")
def workers() -> Iterator[WorkerPool]:
    """One pool for several tests: a process takes seconds to start."""
    with WorkerPool() as pool:
        yield pool


@pytest.mark.slow
def test_parallel_trainings_are_those_made_alone(workers: WorkerPool, tmp_path: Path) -> None:
    ended: list[str] = []
    workers.run([(short(0), tmp_path / "0")])
    # The same process serves again.
    workers.run([(short(seed), tmp_path / str(seed)) for seed in (1, 2)], lambda: ended.append("a training"))
    workers.run([])
    assert ended == ["a training"] * 2
    for seed in range(3):
        assert is_finished(tmp_path / str(seed))
        assert load(tmp_path / str(seed)).record.seed == seed
    alone = train_request(short(2), tmp_path / "alone", Progress())
    # One thread there, more here: the same but for rounding.
    assert load(tmp_path / "2").test_accuracy == pytest.approx(alone.test_accuracy, abs=0.01)


@pytest.mark.slow
@has_signals
def test_a_signal_stops_a_training_which_is_saved(workers: WorkerPool, tmp_path: Path) -> None:
    folder = tmp_path / "runs"

    def stop() -> None:
        while not (folder / "0" / METRICS).exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    workers.run([(short(0), tmp_path / "process")])
    for process in workers._processes:
        # Every epoch, and not every five seconds.
        process.begin(
            exec, "from convatlas.training.checkpoint import CheckpointWriter; CheckpointWriter.INTERVAL_S = 0"
        )()
    watching = threading.Thread(target=stop)
    watching.start()
    # More than go on at once: those that wait never begin.
    jobs = [(short(seed, 1000), folder / str(seed)) for seed in range(torch.get_num_threads() + 1)]
    with pytest.raises(Stopped, match="the trainings are saved"):
        workers.run(jobs)
    watching.join()
    assert not is_finished(folder / "0")
    assert load(folder / "0").record.recipe.epochs == 1000
    assert len(list(folder.iterdir())) == len(jobs) - 1


@has_signals
@pytest.mark.slow
def test_a_training_that_fails_or_whose_process_is_killed_is_an_error_here(
    workers: WorkerPool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="there is no network 'lenet-none'"):
        workers.run([(Request(network="lenet-none"), tmp_path / "bad"), (short(0), tmp_path / "0")])
    # New processes take the place of those that were ended.
    workers.run([(short(1), tmp_path / "1")])
    assert is_finished(tmp_path / "1")
    workers._processes[0]._process.kill()
    with pytest.raises(UserError, match=r"the training in .*/2 was lost: a process ended with status -9"):
        workers.run([(short(2), tmp_path / "2")])
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_folder_in_use_is_an_error_here(workers: WorkerPool, tmp_path: Path) -> None:
    with lock(tmp_path / "2"), pytest.raises(UserError, match=r"another process is writing to .*/2 now"):
        workers.run([(short(2), tmp_path / "2")])


@pytest.fixture
def stoppable(tmp_path: Path) -> Callable[[int], tuple[subprocess.Popen[str], list[Path]]]:
    """Starts trainings of so many epochs in a process; gives it, and the folders in which trainings are going on."""

    def begin(epochs: int) -> tuple[subprocess.Popen[str], list[Path]]:
        script = STOPPED.replace("EPOCHS", str(epochs))
        process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stderr=subprocess.PIPE, text=True)
        folders = [tmp_path / str(seed) for seed in range(min(torch.get_num_threads(), 3))]
        while not all((folder / METRICS).exists() for folder in folders):
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.02)
        return process, folders

    return begin


@has_signals
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_are_stopped_together_and_saved(
    number: signal.Signals,
    stoppable: Callable[[int], tuple[subprocess.Popen[str], list[Path]]],
    tmp_path: Path,
) -> None:
    process, folders = stoppable(1000)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors == ""
    for folder in folders:
        assert not is_finished(folder)
        assert load(folder).record.recipe.epochs == 1000
    # No training began after it.
    assert sorted(tmp_path.iterdir()) == folders


@has_signals
@pytest.mark.slow
def test_a_stopped_training_continues_to_the_same_weights(
    stoppable: Callable[[int], tuple[subprocess.Popen[str], list[Path]]], tmp_path: Path
) -> None:
    process, (first, *_) = stoppable(30)
    process.terminate()
    process.communicate(timeout=60)
    assert not is_finished(first)
    with WorkerPool() as workers:
        workers.run([(short(0, 30), first), (short(0, 30), tmp_path / "never stopped")])
    assert is_finished(first)
    weights = [(folder / WEIGHTS).read_bytes() for folder in (first, tmp_path / "never stopped")]
    assert weights[0] == weights[1]
