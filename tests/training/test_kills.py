"""Runs that are killed, in processes of their own, and resumed: the weights must be those of a run never killed."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load as load_tensors

import convatlas as ca

COMMAND = [sys.executable, "-m", "convatlas"]


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
    whole = ca.train("lenet5-modern", epochs=6, out=tmp_path / "whole")

    folder = tmp_path / "broken"
    process = start("train", "lenet5-modern", "--epochs", "6", "--out", str(folder))
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

    assert weights(ca.resume(folder).folder) == weights(whole.folder)


SMALL = ["--width", "0.25", "--depth", "0.3", "--resolution", "28"]
JOBS = {
    "lenet5-modern": ["--epochs", "14"],
    "resnet20-cifar": [*SMALL, "--epochs", "5", "--val-split", "0.1"],
    "efficientnet-b0": [*SMALL, "--epochs", "3"],
}
NUM_STEPS = {"lenet5-modern": 14 * 11, "resnet20-cifar": 5 * 10, "efficientnet-b0": 3 * 11}
RUNS = [("lenet5-modern", seed) for seed in range(4)]
RUNS += [(name, seed) for name in ("resnet20-cifar", "efficientnet-b0") for seed in range(3)]
KILLS = 50 // len(RUNS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), RUNS)
def test_killed_at_random_times_a_run_of_each_family_ends_in_the_same_weights(
    name: str, seed: int, tmp_path: Path
) -> None:
    job = ["train", name, *JOBS[name], "--seed", str(seed), "--no-autotune", "--checkpoint-steps", "3"]
    begun = time.monotonic()
    finish(*job, "--out", str(tmp_path / "whole"))
    took = time.monotonic() - begun
    trained = json.loads((tmp_path / "whole" / "run.json").read_text())["results"]["seconds"]

    folder = tmp_path / "broken"
    moments = random.Random(f"{name} {seed}")
    # The last kill comes well before the end, however the machine's speed changes meanwhile.
    stops = sorted(moments.uniform(0, 0.7) for _ in range(KILLS))
    for number, stop in enumerate(stops):
        process = proceed(job, folder)
        if number == 1:
            # Any time before training starts.
            wait = moments.uniform(0, took - trained)
        else:
            while done(folder) < stop * NUM_STEPS[name]:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.02)
            wait = moments.uniform(0, trained / 20)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(wait)
        assert end(process, process.kill) == -9
    assert end(proceed(job, folder), lambda: None) == 0
    assert weights(folder) == weights(tmp_path / "whole")


def done(folder: Path) -> int:
    """Steps up to the newest checkpoint; 0: there is none, or it is just being put in its place."""
    try:
        tensors = load_tensors((folder / "checkpoint.safetensors").read_bytes())
    except FileNotFoundError:
        return 0
    step: int = json.loads(bytes(tensors["state"].numpy()))["step"]
    return step


def proceed(job: list[str], folder: Path) -> subprocess.Popen[str]:
    # A run that was killed before it had a record cannot be resumed, and has lost nothing.
    return start("resume", str(folder)) if (folder / "run.json").exists() else start(*job, "--out", str(folder))
