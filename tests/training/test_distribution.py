"""Several processes that train together, started by torchrun as a person does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import convatlas as ca
from convatlas.runs.options import Runtime
from convatlas.runs.run import load_run
from convatlas.training import Progress
from convatlas.training.distribution import Processes

on_linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes and threads below /proc")

PROGRAM = ("-m", "convatlas")
LIMIT_S = 100
"""Processes that wait for each other forever must not stop the tests too."""


def free_port() -> int:
    """Each torchrun needs its own, since several may run at a time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def begin(*arguments: str | Path, options: tuple[str, ...] = PROGRAM) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node 2 OPTIONS ARGUMENTS`"""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*torchrun, "--master-port", str(free_port()), *options, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Otherwise torchrun prints that it sets it.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def end(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        # They do not end with torchrun.
        for pid in workers(process):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def together(*arguments: str | Path, options: tuple[str, ...] = PROGRAM) -> subprocess.CompletedProcess[str]:
    return end(begin(*arguments, options=options))


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for something that must happen while the process runs."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02)


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun started, in the order of their ranks."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid:
                variables = (entry / "environ").read_bytes().split(b"\0")
                [rank] = [int(value[5:]) for value in variables if value.startswith(b"RANK=")]
                found.append((rank, int(entry.name)))
        except (OSError, ValueError):
            # No process, a process that has ended, or one that has not read its environment yet.
            continue
    return [pid for _, pid in sorted(found)]


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def epochs(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


JOB = ("train", "lenet5-modern", "--epochs", "3", "--checkpoint-steps", "2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    done = together(*JOB, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_two_processes_leave_one_run_that_one_process_evaluates_to_the_same(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = undisturbed
    assert {path.name for path in folder.iterdir()} == {
        "run.json", "model.json", "weights.safetensors", "metrics.jsonl", "curves.svg", "confusion.svg",
    }  # fmt: skip
    run = load_run(folder)
    assert run.record.num_processes == 2
    # Each image was counted once, by one of the two.
    evaluation = run.evaluate()
    assert run.score == evaluation.score
    assert run.score.num_images == evaluation.num_images == 355
    assert run.score.num_errors == evaluation.num_errors
    assert run.test_accuracy == evaluation.accuracy > 0.3


def test_one_of_two_processes_prints(undisturbed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = undisturbed
    assert done.stdout.count("test accuracy") == 1
    assert done.stdout.count(f"run folder     {folder}") == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert done.stderr.count("1,442 images") == 1


def first_epoch(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])


def test_two_processes_learn_what_one_does_except_for_rounding(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    # The same images in the same order with the same augmentation: in another order, the losses would differ at once.
    alone = ca.train("lenet5-modern", epochs=3, runtime=Runtime(autotune=False), out=tmp_path / "alone")
    assert first_epoch(undisturbed[0])["loss"] == pytest.approx(first_epoch(alone.folder)["loss"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_end_in_the_weights_of_one_except_for_rounding(tmp_path: Path) -> None:
    alone = ca.train("lenet5-modern", epochs=1, runtime=Runtime(autotune=False), out=tmp_path / "alone")
    done = together("train", "lenet5-modern", "--epochs", "1", "--no-autotune", "--json", "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    # One object and nothing else.
    assert json.loads(done.stdout)["run"] == str(tmp_path / "two")
    assert first_epoch(tmp_path / "two")["loss"] == pytest.approx(first_epoch(alone.folder)["loss"], rel=1e-4)
    ours, theirs = load_run(tmp_path / "two").network.state_dict(), alone.network.state_dict()
    for name, value in theirs.items():
        assert (ours[name] - value).abs().max() < 0.02 * value.abs().max(), name


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(("--data", "mnits"), id="no such data", marks=pytest.mark.slow),
        pytest.param(("--out", "/proc/nowhere/run"), id="no such folder", marks=[on_linux, pytest.mark.slow]),
    ],
)
def test_a_mistake_is_reported_once_and_fails(mistake: tuple[str, str], tmp_path: Path) -> None:
    done = together("train", "lenet5-modern", "--epochs", "1", "--out", tmp_path / "run", *mistake)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("convatlas: ")]
    assert len(errors) == 1
    assert mistake[1].removesuffix("/run") in errors[0]
    assert "convatlas/" not in done.stderr.replace(str(tmp_path), ""), "a traceback of ours"
    assert done.stdout == ""


EVALUATED = """
import json, sys
import torch
from convatlas.data import Batches
from convatlas.models.evaluation import evaluate
from convatlas.runs.run import load_run
from convatlas.training.distribution import Processes

run, processes, cpu = load_run(sys.argv[1]), Processes.from_env(), torch.device("cpu")
split, preprocessing = run.load_data().test, run.card.preprocessing
with processes.process_group(cpu):
    for size in (7, 500):
        batches = Batches(
            split, preprocessing, num_classes=10, batch_size=size, device=cpu, shard=processes.shard
        )
        evaluation = evaluate(run.network, run.variant.objective, batches, processes.all_reduce_sum)
        # In one piece: the lines of two processes mix otherwise.
        sys.stdout.write(json.dumps([evaluation.predictions.tolist(), evaluation.confusion.tolist()]) + "\\n")
        sys.stdout.flush()
"""


@pytest.mark.slow
def test_each_of_two_processes_has_the_predictions_for_all_images_in_their_order(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, _ = undisturbed
    program = tmp_path / "program.py"
    program.write_text(EVALUATED)
    # Batches of 7, of which one process has 3 and the other 4; the last one, and that of all 355, are uneven too.
    done = together(program, folder, options=())
    assert done.returncode == 0, done.stderr
    alone = load_run(folder).evaluate()
    expected = [alone.predictions.tolist(), alone.confusion.tolist()]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [expected] * 4


THREADS_AFTER = """
import sys
from pathlib import Path
import convatlas as ca
ca.train("lenet5-modern", epochs=1, runtime=ca.Runtime(autotune=False), out=sys.argv[1])
print(*(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")))
"""


@on_linux
@pytest.mark.slow
def test_no_thread_of_the_process_group_is_left_when_python_ends(tmp_path: Path) -> None:
    # It would be stopped in the middle of its work, and sometimes abort the process.
    program = tmp_path / "program.py"
    program.write_text(THREADS_AFTER)
    done = together(program, tmp_path / "run", options=())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert "gloo" not in done.stdout


@pytest.mark.slow
def test_stopped_and_resumed_by_as_many_processes_a_run_ends_in_the_same_weights(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = begin(*JOB, "--out", folder)
    until(lambda: epochs(folder) >= 1, process)
    process.send_signal(signal.SIGTERM)
    assert end(process).returncode != 0
    assert load_run(folder).record.results is None
    done = together("resume", folder)
    assert done.returncode == 0, done.stderr
    assert "resuming after step" in done.stderr
    assert weights(folder) == weights(undisturbed[0])


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed_by_one_which_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begin(*JOB, "--out", folder)
    until(lambda: epochs(folder) >= 1, process)
    process.send_signal(signal.SIGTERM)
    end(process)
    said: list[str] = []

    class Listener(Progress):
        def say(self, line: str) -> None:
            said.append(line)

    run = ca.resume(folder, progress=Listener())
    assert [line for line in said if "started with 2 and resumed with 1 processes" in line] == said != []
    assert run.results.epochs == 3
    assert run.evaluate().score == run.score


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("rank", [0, 1])
def test_after_one_of_two_processes_was_killed_torchrun_restarts_both_to_the_same_weights(
    rank: int, undisturbed: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = begin(*JOB, "--out", folder, options=("--max-restarts", "2", *PROGRAM))
    until(lambda: epochs(folder) >= 1, process)
    os.kill(workers(process)[rank], signal.SIGKILL)
    done = end(process)
    assert done.returncode == 0, done.stderr
    assert weights(folder) == weights(undisturbed[0])
    # The other one says in one line why it ends.
    assert "Traceback" not in done.stderr
    assert "convatlas: another process of this training was lost" in done.stderr


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_reported_once_by_two_processes(tmp_path: Path) -> None:
    done = together(
        "train", "lenet5-modern", "--epochs", "1", "--lr", "1e30", "--no-autotune", "--out", tmp_path / "run"
    )
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("convatlas: ")]
    assert len(errors) == 1
    # With the images of both.
    assert "is not a finite number at step 2 in epoch 1" in errors[0]
    assert "and 123 others" in errors[0]


# One process alone


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = Processes.from_env()
    assert (alone.rank, alone.world_size, alone.is_main, alone.restarts) == (0, 1, True, 0)
    assert alone.broadcast(lambda: 5) == 5
    assert alone.main_first(lambda: 6) == 6
    assert alone.all_gather(7) == [7]
    assert alone.all_reduce_max(8) == 8
    values = torch.tensor([1.0, 2.0])
    assert alone.all_reduce_sum(values) is values
    layer = torch.nn.Linear(1, 1)
    assert alone.wrap_ddp(layer, torch.device("cpu")) is layer
    with alone.process_group(torch.device("cpu")), alone.no_sync(layer):
        alone.sync_state(layer)


def test_torchruns_environment_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "2"}
    for name, value in (variables | place).items():
        monkeypatch.setenv(name, value)
    processes = Processes.from_env()
    assert (processes.rank, processes.world_size, processes.local_rank, processes.local_world_size) == (5, 8, 1, 4)
    assert (processes.is_main, processes.restarts, processes.shard) == (False, 2, (5, 8))


def test_who_trains_alone_although_others_were_announced_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    said: list[str] = []

    class Listener(Progress):
        def say(self, line: str) -> None:
            said.append(line)

    run = ca.train("lenet1", epochs=1, runtime=Runtime(autotune=False), out=tmp_path / "run", progress=Listener())
    assert run.record.num_processes == 1
    assert said == ["training alone: WORLD_SIZE is '2', but not all that torchrun sets beside it is there"]
