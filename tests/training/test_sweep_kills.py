"""Workers of a sweep, stopped and killed in processes of their own: the best is that of a sweep that nothing disturbed.

A combination is trained to its end once if one trial of it is complete, and no two workers trained it at a time.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from optuna.trial import TrialState

from convatlas.runs.options import Runtime
from convatlas.runs.run import Run, load_run
from convatlas.training import Request
from convatlas.training.storage import opened_storage
from convatlas.training.study import Study
from convatlas.training.sweep import sweep

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")

LR: Mapping[str, Sequence[float]] = {"lr": (1e-3, 4e-3, 2e-2)}
LOST_AFTER_S = 2.0
LIMIT_S = 120
WORKER = f"""
import sys
import time
from convatlas.runs.options import Runtime
from convatlas.training import Progress, Request
from convatlas.training.sweep import sweep

class Log(Progress):
    def say(self, line):
        print(time.time(), line, flush=True)

    def begin(self, run, *numbers):
        self.say(f"training {{run.folder.name}}")

    def close(self):
        self.say("not training")

request = Request(network="lenet5-modern", epochs=2, runtime=Runtime(autotune=False, checkpoint_steps=3))
Log().say("begun")
sweep(request, {LR}, out=sys.argv[1], storage=sys.argv[2], lost_after_s={LOST_AFTER_S}, progress=Log())
"""
REQUEST = Request(network="lenet5-modern", epochs=2, runtime=Runtime(autotune=False, checkpoint_steps=3))


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    log: Path
    ended: float = 0.0

    @classmethod
    def start(cls, out: Path, storage: str) -> Worker:
        out.parent.mkdir(exist_ok=True)
        log = out.parent / f"{len(list(out.parent.glob('*.log')))}.log"
        with log.open("wb") as file, log.with_suffix(".err").open("wb") as errors:
            command = [sys.executable, "-c", WORKER, str(out), storage]
            return cls(subprocess.Popen(command, stdout=file, stderr=errors), log)

    def wait_for(self, words: str) -> None:
        end = time.monotonic() + LIMIT_S
        while words not in self.log.read_text():
            assert time.monotonic() < end
            assert not self.ends_within(0.02), self.errors

    def ends_within(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self.ended = time.time()
        return True

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        assert self.ends_within(LIMIT_S)

    @property
    def errors(self) -> str:
        return self.log.with_suffix(".err").read_text()

    @property
    def trained(self) -> list[tuple[str, float, float]]:
        """Each training's folder, beginning and end."""
        lines = [line.split(maxsplit=2) for line in self.log.read_text().splitlines()]
        ends = [float(line[0]) for line in lines[1:]] + [self.ended]
        return [(line[2], float(line[0]), end) for line, end in zip(lines, ends, strict=True) if line[1] == "training"]


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of a sweep that nothing disturbed."""
    return sweep(REQUEST, LR, out=tmp_path_factory.mktemp("undisturbed") / "sweep")


def check(storage: str, outs: Collection[Path], workers: Sequence[Worker], best: Run) -> None:
    """Fail unless each worker's folder holds the same run, and each combination was trained to its end once."""
    [name] = {out.name for out in outs}
    for out in outs:
        run = load_run(out)
        assert run.record.recipe.lr == best.record.recipe.lr
        assert (out / "weights.safetensors").read_bytes() == (best.folder / "weights.safetensors").read_bytes()
    with opened_storage(storage) as database:
        trials = Study(database, name, LR, lost_after_s=LOST_AFTER_S).optuna.get_trials()
    assert sorted(trial.params["lr"] for trial in trials if trial.state is TrialState.COMPLETE) == sorted(LR["lr"])
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    trained = sorted(one for worker in workers for one in worker.trained if one[0] != name)
    for (before, _, end), (after, begin, _) in pairwise(trained):
        assert before != after or end <= begin, (before, end, begin)


@pytest.mark.slow
def test_what_a_killed_worker_had_begun_is_trained_by_another(best: Run, sqlite: str, tmp_path: Path) -> None:
    killed = Worker.start(tmp_path / "killed" / "sweep", sqlite)
    killed.wait_for("training lr=0.001")
    killed.end(signal.SIGKILL)
    out = tmp_path / "other" / "sweep"
    sweep(REQUEST, LR, out=out, storage=sqlite, lost_after_s=LOST_AFTER_S)
    check(sqlite, [out], [killed], best)


NUM_ENDS = 7
MOST_AT_ONCE = 4
"""Of one sweep's workers; the next comes after them."""


@pytest.mark.slow
@pytest.mark.parametrize("places", [("one",), ("one", "two"), ("one", "one")], ids=["one", "two", "two-in-one-folder"])
def test_workers_that_are_stopped_and_killed_at_random_find_the_same_best(
    places: tuple[str, ...], best: Run, shared_storage: str, tmp_path: Path
) -> None:
    moments = random.Random(f"{shared_storage.partition(':')[0]} {places}")
    num_ends = 0
    for number in range(NUM_ENDS):
        outs = [tmp_path / place / f"sweep{number}" for place in places]
        all_workers = workers = [Worker.start(out, shared_storage) for out in outs]
        for _ in range(min(MOST_AT_ONCE, NUM_ENDS - num_ends)):
            i = moments.randrange(len(workers))
            workers[i].wait_for("begun")
            if workers[i].ends_within(moments.uniform(0, best.results.seconds * len(LR["lr"]))):
                assert workers[i].process.returncode == 0, workers[i].errors
                break
            workers[i].end(moments.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
            num_ends += 1
            workers = [*workers[:i], Worker.start(outs[i], shared_storage), *workers[i + 1 :]]
            all_workers = [*all_workers, workers[i]]
        for worker in workers:
            assert worker.ends_within(LIMIT_S)
            assert worker.process.returncode == 0, worker.errors
        check(shared_storage, set(outs), all_workers, best)
        if num_ends == NUM_ENDS:
            return
    raise AssertionError(f"only {num_ends} workers were ended")
