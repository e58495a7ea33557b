"""The plan of scripts/on-gpu, on the CPU: what is done, stopped, failed and left, and what a second call does."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from typer.main import get_command

import convatlas as ca
from convatlas.cli.app import app
from convatlas.training import Interrupted, Progress

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
DIGITS = ("--data", "digits", "--device", "cpu")

PROGRAM = """
import sys
from on_gpu import main, run_until

class Pause:
    name = "pause"

    def minutes_left(self, figures):
        return 7

    def measure(self, folder, deadline, figures):
        figures["begun"] = True
        run_until(deadline, [sys.executable, "-c", "import signal; signal.pause()"], folder.with_suffix(".log"))

class Never(Pause):
    name = "never"

main([Pause(), Never()])
"""

MARKED = """
import pytest

@pytest.mark.gpu
def test_that_holds():
    pass

@pytest.mark.gpu
def test_that_does_not():
    raise ValueError("one is not two")

@pytest.mark.gpu
def test_that_cannot_run():
    pytest.skip("too few GPUs")

def test_of_the_cpu():
    raise AssertionError
"""


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with those beside it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("on_gpu")


@dataclass
class Steps:
    """Does plans of steps, in this process; what the steps start are processes of their own."""

    script: ModuleType
    out: Path

    def do(self, *plan: object, minutes: float = 10) -> int:
        """The exit status."""
        with pytest.raises(SystemExit) as ended:
            self.script.main(plan, ["--minutes", str(minutes), "--out", str(self.out)])
        return int(ended.value.code or 0)

    @property
    def record(self) -> dict[str, Any]:
        return json.loads(self.out.read_text())

    def states(self) -> dict[str, tuple[str, str]]:
        return {name: (state["status"], state["note"]) for name, state in self.record["steps"].items()}


@pytest.fixture
def steps(on_gpu: ModuleType, tmp_path: Path) -> Steps:
    return Steps(on_gpu, tmp_path / "record.json")


@dataclass
class Counted:
    """Is done at the call of that number, and counts them."""

    script: ModuleType
    name: str
    at_call: int
    calls: int = 0

    def minutes_left(self, figures: Mapping[str, Any]) -> float:
        return 7

    def measure(self, folder: Path, deadline: float, figures: dict[str, Any]) -> None:
        self.calls += 1
        figures["calls"] = self.calls
        if self.calls < self.at_call:
            raise self.script.StepError("no luck")


def test_a_step_that_fails_leaves_the_others_their_turn_and_is_tried_again(steps: Steps) -> None:
    plan = (Counted(steps.script, "one", at_call=2), Counted(steps.script, "two", at_call=1))
    assert steps.do(*plan) == 1
    assert steps.states() == {"one": ("failed", "no luck"), "two": ("done", "")}
    assert steps.record["steps"]["one"]["figures"] == {"calls": 1}
    assert steps.do(*plan) == 0
    assert steps.states() == {"one": ("done", ""), "two": ("done", "")}
    assert [step.calls for step in plan] == [2, 1]
    assert steps.record.keys() == {"command", "date", "commit", "machine", "steps"}
    assert steps.record["machine"].keys() >= {"gpus", "driver", "torch", "cuda", "processor_name"}


@pytest.mark.slow
def test_what_the_minutes_do_not_reach_is_left_with_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(ROOT / "src")])}
    # The first step waits for ever, and is stopped.
    command = [sys.executable, "program.py", "--minutes", "0.01", "--out", "record.json"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "record.json\n"), done.stderr
    pause, never = json.loads((tmp_path / "record.json").read_text())["steps"].values()
    assert (pause["status"], pause["note"]) == ("stopped", "the time was over; needs about 7 min more")
    assert pause["figures"] == {"begun": True}
    assert (never["status"], never["note"], never["figures"]) == ("not run", "needs about 7 min", {})
    assert done.stderr.endswith("never: not run: needs about 7 min\n")


def test_a_record_of_other_sources_or_of_another_machine_is_left_alone(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Counted(steps.script, "one", at_call=1)
    assert steps.do(step, minutes=0) == 0
    for name in ("commit", "machine"):
        content = json.dumps(steps.record | {name: "another"})
        (other := replace(steps, out=steps.out.with_name(f"{name}.json"))).out.write_text(content)
        capsys.readouterr()
        assert other.do(step) == 2
        assert capsys.readouterr().err == f"on-gpu: {other.out} is of another {name}; name another file with --out\n"
        assert other.out.read_text() == content
    assert step.calls == 0


@pytest.mark.slow
def test_trainings_and_tests_leave_their_figures(
    steps: Steps, tmp_path: Path, stop_at: Callable[[int], Progress]
) -> None:
    # As an earlier call left it.
    with pytest.raises(Interrupted):
        ca.train("lenet1", epochs=2, out=tmp_path / "record" / "trained", progress=stop_at(7))
    (tmp_path / "marked").mkdir()
    (tmp_path / "marked" / "test_some.py").write_text(MARKED)
    status = steps.do(
        steps.script.Training("trained", 1, "lenet1", DIGITS),
        steps.script.Training("without data", 1, "lenet1", ("--data", str(tmp_path / "nowhere"))),
        steps.script.MarkedTests("tests", 1, tmp_path / "marked"),
    )
    assert status == 1
    trained, missing, tests = steps.record["steps"].values()
    assert "resuming after step 7 of 24" in (tmp_path / "record" / "trained.log").read_text()
    assert (trained["status"], trained["figures"]["epochs"], trained["figures"]["test_images"]) == ("done", 2, 355)
    assert trained["figures"]["test_accuracy"] == pytest.approx(1 - trained["figures"]["test_errors"] / 355)
    assert missing["status"] == "failed"
    assert "nowhere" in missing["note"]
    assert (tests["status"], tests["note"]) == ("failed", "1 failed, 1 passed")
    reasons = tests["figures"].pop("reasons")
    assert tests["figures"] == {"passed": 1, "failed": 1, "skipped": 1}
    assert {name.rpartition("::")[2]: reason for name, reason in reasons.items()} == {
        "test_that_does_not": "ValueError: one is not two",
        "test_that_cannot_run": "too few GPUs",
    }


@pytest.mark.slow
def test_the_shortest_training_that_reaches_the_accuracy_does_so_with_new_seeds_too(steps: Steps) -> None:
    lengths = (1, 2, 4, 8)
    assert steps.do(steps.script.SecondsToAccuracy("to", 1, "lenet1", DIGITS, 0.6, lengths)) == 0
    figures = steps.record["steps"]["to"]["figures"]
    accuracies = {(run["planned_epochs"], run["seed"]): run["test_accuracy"] for run in figures["runs"]}
    chosen = figures["epochs"]
    assert accuracies[chosen, 0] >= 0.6
    assert 0.6 <= figures["mean_test_accuracy"] == pytest.approx((accuracies[chosen, 1] + accuracies[chosen, 2]) / 2)
    assert figures["seconds"]["n"] == 3
    shorter = [length for length in lengths if length < chosen]
    assert shorter
    for length in shorter:
        assert accuracies[length, 0] < 0.6 or (accuracies[length, 1] + accuracies[length, 2]) / 2 < 0.6


def test_how_much_a_stopped_training_needs_follows_from_its_own_speed(on_gpu: ModuleType) -> None:
    step = on_gpu.Training("one", 20, "lenet1", ())
    assert step.minutes_left({}) == 20
    assert step.minutes_left({"epochs": 41, "planned_epochs": 164, "training_seconds": 820.0}) == 41.0


def test_the_plan_is_of_commands_that_exist(on_gpu: ModuleType) -> None:
    train: Any = get_command(app).commands["train"]  # type: ignore[attr-defined]
    assert len({step.name for step in on_gpu.PLAN}) == len(on_gpu.PLAN)
    for step in on_gpu.PLAN[1:]:
        given = train.make_context("train", [step.network, *step.options]).params
        assert (given["data"], given["device"]) == ("cifar10", "cuda")
        assert given["recipe"] == ("paper" if step.name.endswith("-paper") else "default")


def test_files_with_tests_for_a_gpu_are_found_by_mark_and_by_fixture(on_gpu: ModuleType) -> None:
    names = {path.name for path in on_gpu.PLAN[0].files()}
    assert {"test_batches.py", "test_autotune.py", "test_loop.py", "test_two_towers.py", "test_device.py"} <= names
    assert "test_formatting.py" not in names


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_machine_without_a_gpu_is_told_so_in_one_line(tmp_path: Path) -> None:
    env = os.environ | {"PYTHON": sys.executable}
    command = [ROOT / "scripts" / "on-gpu", "--minutes", "0", "--out", tmp_path / "record.json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"on-gpu: {sys.executable} has no PyTorch that sees a GPU; PYTHON names another\n"
    assert not list(tmp_path.iterdir())
