"""Ctrl-C and SIGTERM, at any moment and twice: one line and the status, never a traceback. Each in a real process."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="what Windows calls signals only kills")

# Sends this process a signal, once or more often, when an event of Python's audit happens that names something: a
# module that is imported, a file that is opened.
PROGRAM = """
import os, signal, sys, threading
number, times, kind, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
done = []
def send_again():
    for _ in range(times - 1):
        answer = signal.getsignal(number)
        os.kill(os.getpid(), number)
        while signal.getsignal(number) == answer:
            pass
def hook(event, args):
    if event == kind and not done and name in str(args[0]):
        done.append(event)
        # In a thread of its own: the one at hand may be what the main thread waits for.
        threading.Thread(target=send_again, daemon=True).start()
        os.kill(os.getpid(), number)
sys.addaudithook(hook)
sys.argv[:5] = ["convatlas"]
from convatlas.cli import main
main()
"""
TRAIN = ["train", "lenet5-modern", "--no-autotune", "--epochs", "1"]
LINES = {signal.SIGINT: "convatlas: stopped by Ctrl-C", signal.SIGTERM: "convatlas: stopped by SIGTERM"}


def signaled(number: signal.Signals, event: tuple[str, str], *arguments: str, times: int = 1) -> list[str]:
    """The lines on standard error of a command that gets a signal when something happens."""
    kind, name = event
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number)), str(times), kind, name, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 128 + number, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("number", "module"),
    [
        (signal.SIGINT, "convatlas.cli.app"),
        (signal.SIGTERM, "torch._C"),
        pytest.param(signal.SIGTERM, "typer", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "torch.nn.modules", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "numpy", marks=pytest.mark.slow),
    ],
)
def test_while_modules_are_loaded(number: signal.Signals, module: str, tmp_path: Path) -> None:
    lines = signaled(number, ("import", module), *TRAIN, "--quiet", "--out", str(tmp_path / "run"))
    assert lines == [LINES[number]]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("number", "times"),
    [
        (signal.SIGINT, 3),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
    ],
)
def test_before_training_starts(number: signal.Signals, times: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert signaled(number, ("open", "digits.csv.gz"), *TRAIN, "--out", str(out), times=times) == [LINES[number]]
    assert not out.exists()


@pytest.mark.slow
def test_twice_while_a_network_learns(tmp_path: Path) -> None:
    number, out = signal.SIGINT, tmp_path / "run"
    # The first asks to stop after the step at hand; the next one does not wait for that.
    arguments = [*TRAIN[:-1], "100", "--quiet", "--out", str(out)]
    lines = signaled(number, ("open", ".metrics.jsonl.part"), *arguments, times=3)
    assert lines == [LINES[number]]


@pytest.mark.slow
def test_between_the_trainings_of_an_experiment(tmp_path: Path) -> None:
    number = signal.SIGTERM
    lines = signaled(
        number, ("open", tmp_path.name), "experiment", "run", "two-towers", "--quiet", "--out", str(tmp_path)
    )
    assert lines == [f"{LINES[number]}; finished measurements are kept; the same command continues"]


@pytest.mark.slow
def test_what_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    program = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); exec({PROGRAM!r})"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "2",
            "1",
            "open",
            ".metrics.jsonl.part",
            *TRAIN,
            "--out",
            str(tmp_path / "run"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.slow
def test_before_the_first_trial_of_a_sweep(tmp_path: Path) -> None:
    event = ("open", "digits.csv.gz")
    lines = signaled(signal.SIGTERM, event, *TRAIN, "--sweep", "lr=0.1,0.2", "--quiet", "--out", str(tmp_path / "run"))
    assert lines == [f"{LINES[signal.SIGTERM]}; what was done is kept; the same command continues"]
