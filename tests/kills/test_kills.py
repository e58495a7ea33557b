"""Commands that are killed, before and after everything they do to the disk and at random moments, and repeated: what
they make is what they make undisturbed, and nothing else stays: no lock, no part of a file, no process."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and finds processes below /proc")

TUNED = ["--epochs", "2", "--no-autotune", "--quiet"]
SHORT = ["--data", "images", "--batch-size", "8", *TUNED]
EXPERIMENT = """
from convatlas import Runtime
from convatlas.experiments.engine.ledger import run
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.comparison import compare
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import at_most
from convatlas.training import Request

def statement(name, rates):
    def request(seed):
        return Request(network="lenet5-modern", data="images", epochs=2, batch_size=8, lr=0.01, seed=seed,
                       runtime=Runtime(autotune=False))

    def arms(setting):
        return {"it": Arm(request=request, rates=rates)}

    def measure(setting):
        return compare(setting.train_arms(arms(setting)), {"it": 1.0}, max_training_error=50.0)

    return Statement(id=name, text="It learns.", statistic="test error", threshold=at_most(10.0), arms=arms,
                     measure=measure)

run(Topic(id="one", title="", summary="", source="", method="", limitations="", minutes_quick=1, minutes_full=1,
          statements=(statement("given", ()), statement("chosen", (0.02, 0.01)))), num_seeds=2)
"""
SAVE = """
import convatlas as ca
model = ca.load("run.cva")
model.save("copy.cva")
model.save("copy")
"""


@dataclass(frozen=True)
class Work:
    """Something to do, which is repeated after a kill."""

    task: list[str] | str
    """As `Server.run` takes it."""
    run: str | None = None
    """The folder of a run that is resumed, once it is one."""
    done: str | None = None
    """What is said where it is done already, which is no success."""

    def next(self, folder: Path) -> list[str] | str:
        """What to run now in this folder."""
        if self.run is not None and (folder / self.run / "run.json").exists():
            return ["resume", self.run, "--quiet"]
        return self.task


def training(network: str, *options: str) -> Work:
    return Work(["train", network, *SHORT, "--checkpoint-steps", "3", "--out", "mine", *options], run="mine")


SMALL = ["--width", "0.25", "--depth", "0.3", "--resolution", "28"]
FAMILIES = {
    "resnet20-cifar": training("resnet20-cifar", *SMALL, "--val-split", "0.2"),
    "efficientnet-b0": training("efficientnet-b0", *SMALL),
}
"""With what others have to keep: batch normalization, an average of the weights."""
WORKS = {
    "train": training("lenet5-modern", "--val-split", "0.2"),
    "fine-tuning": training("lenet5-modern", "--from", "run", "--epochs", "10"),
    "sweep": Work(["train", "lenet5-modern", *SHORT, "--sweep", "lr=0.001,0.01", "--out", "mine"]),
    "channels": Work(["compress", "run", "--prune", "0.3", "--rounds", "1", *TUNED, "--out", "small"]),
    "bits": Work(["compress", "run", "--bits", "3", *TUNED, "--out", "small.cva"]),
    "unpack": Work(["unpack", "run.cva", "--out", "mine"], done="mine holds something already"),
    "save": Work(SAVE, done="copy holds something already"),
    "difference": Work(["update", "run.cva", "other.cva", "--out", "mine.cvu"]),
    "update": Work(["update", "run.cva", "update.cvu", "--out", "mine.cva"]),
    "experiment": Work(EXPERIMENT),
}
NUM_RANDOM = 20
"""How often each is killed at random moments, once to three times before it may end."""
PARTS = 8
"""Of the slow test: where it is stopped, -k goes on with the others."""


@dataclass
class Undisturbed:
    contents: Mapping[str, Any]
    num_moments: int
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(server: Any, before: Path) -> Callable[[str], Undisturbed]:
    """What a work leaves that nobody disturbs; each is done once."""
    known: dict[str, Undisturbed] = {}

    def of(name: str) -> Undisturbed:
        if name not in known:
            restore(server, before)
            ended = server.run((WORKS | FAMILIES)[name].task)
            assert ended.status == 0, ended.output
            known[name] = Undisturbed(server.contents(), len(ended.moments), ended.seconds)
        return known[name]

    return of


def restore(server: Any, before: Path) -> None:
    shutil.rmtree(server.folder, ignore_errors=True)
    shutil.copytree(before, server.folder)


class Killing:
    """Kills works, repeats them, and compares what they leave."""

    def __init__(self, server: Any, before: Path, undisturbed: Callable[[str], Undisturbed]) -> None:
        self._server = server
        self._before = before
        self.undisturbed = undisturbed

    def __call__(self, name: str, *kills: dict[str, Any]) -> None:
        """
        Args:
            kills: when each is, as `Server.run` takes it.
        """
        expected = self.undisturbed(name).contents
        restore(self._server, self._before)
        for kill in kills:
            self._run(name, **kill)
        assert self._run(name) != -9
        assert self._server.survivors(timeout_s=20) == []
        found = self._server.contents()
        assert {path for path in {*found, *expected} if found.get(path, 0) != expected.get(path, 0)} == set(), kills

    def _run(self, name: str, **kill: Any) -> int:
        work = (WORKS | FAMILIES)[name]
        ended = self._server.run(work.next(self._server.folder), **kill)
        if ended.status == 2 and "another process is writing to" in ended.output:
            # One that a killed process started, and that is just ending.
            assert self._server.survivors(timeout_s=20) == []
            ended = self._server.run(work.next(self._server.folder), **kill)
        is_done = ended.status == 2 and work.done is not None and work.done in ended.output
        assert ended.status in (0, -9) or is_done, f"{kill}, {ended.moments}:\n{ended.output}"
        assert "Traceback" not in ended.output, (kill, ended)
        return ended.status


@pytest.fixture(scope="module")
def kill(server: Any, before: Path, undisturbed: Callable[[str], Undisturbed]) -> Killing:
    return Killing(server, before, undisturbed)


@pytest.mark.parametrize(
    "name", [name if name == "train" else pytest.param(name, marks=pytest.mark.slow) for name in WORKS]
)
def test_killed_at_a_change_of_the_disk_a_work_ends_the_same(name: str, kill: Killing) -> None:
    # Another moment at each time; a failure says which.
    kill(name, {"kill_at": random.randrange(kill.undisturbed(name).num_moments)})


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", WORKS)
def test_killed_at_each_change_of_the_disk_a_work_ends_the_same(name: str, part: int, kill: Killing) -> None:
    for number in range(part, kill.undisturbed(name).num_moments, PARTS):
        kill(name, {"kill_at": number})


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS | FAMILIES)
def test_killed_at_random_moments_a_work_ends_the_same(name: str, kill: Killing) -> None:
    moments = random.Random(name)
    seconds = kill.undisturbed(name).seconds
    for _ in range(NUM_RANDOM):
        kill(name, *({"kill_after_s": moments.uniform(0, seconds)} for _ in range(moments.randint(1, 3))))
