"""Runs killed for good, in processes of their own, and resumed: the weights must be those of a run never killed."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from convatlas.cli import main; main()"]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def finish(*arguments: str) -> None:
    subprocess.run([*COMMAND, *arguments], check=True, capture_output=True)


def read_until(process: subprocess.Popen[str], beginning: str) -> None:
    """Wait for a line of progress."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(beginning):
            return
    raise AssertionError(f"{beginning!r} never came")


def end(process: subprocess.Popen[str], act: Callable[[], None]) -> int:
    act()
    process.communicate()
    return process.returncode


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def test_killed_before_and_after_a_checkpoint_a_run_ends_in_the_same_weights(tmp_path: Path) -> None:
    job = ["train", "lenet5-modern", "--epochs", "6"]
    finish(*job, "--out", str(tmp_path / "whole"))

    folder = tmp_path / "broken"
    process = start(*job, "--out", str(folder))
    read_until(process, "epoch 1/")
    assert end(process, process.kill) == -9
    assert not (folder / "checkpoint.safetensors").exists()

    process = start("resume", str(folder))
    read_until(process, "epoch 2/")
    assert end(process, process.terminate) == 128 + 15
    assert (folder / "checkpoint.safetensors").exists()

    process = start("resume", str(folder))
    read_until(process, "epoch 4/")
    assert end(process, process.kill) == -9

    finish("resume", str(folder))
    assert weights(folder) == weights(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments_a_run_ends_in_the_same_weights(seed: int, tmp_path: Path) -> None:
    job = ["train", "lenet5", "--epochs", "70", "--seed", str(seed)]
    finish(*job, "--out", str(tmp_path / "whole"))

    folder = tmp_path / "broken"
    moments = random.Random(seed)
    process = start(*job, "--out", str(folder))
    for _ in range(4):
        try:
            process.communicate(timeout=moments.uniform(1, 14))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        # Killed before it had a folder, there is nothing to resume and nothing lost.
        process = start("resume", str(folder)) if (folder / "run.json").exists() else start(*job, "--out", str(folder))
    process.communicate()
    assert process.returncode == 0
    assert weights(folder) == weights(tmp_path / "whole")
