"""Commands in the environment of somebody else: variables that another launcher, a notebook or a desktop left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from convatlas.runs.run import Run

LEFTOVERS = [
    {"RANK": "1"},
    {"LOCAL_RANK": "3"},
    {"RANK": "x", "LOCAL_RANK": ""},
    {"WORLD_SIZE": "2"},
    {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
    {"TORCHELASTIC_RESTART_COUNT": "many", "MASTER_PORT": "here"},
    {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NTASKS": "2"},
    {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMI_RANK": "1"},
]
COMPLETE = {
    "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}  # fmt: skip
leftovers = pytest.mark.parametrize(
    "variables",
    [
        pytest.param(variables, id=" ".join(variables), marks=[pytest.mark.slow] if number % 2 else [])
        for number, variables in enumerate(LEFTOVERS)
    ],
)


def put(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@leftovers
def test_what_a_launcher_left_neither_silences_nor_stops_training(
    variables: dict[str, str], convatlas: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, variables)
    status, out, err = convatlas("train", "lenet1", "--epochs", 1, "--no-autotune", "--out", tmp_path / "run")
    assert status == 0
    assert "test accuracy" in out
    assert "epoch 1/1" in err
    # A mistake is told.
    status, out, err = convatlas("train", "lenet1", "--data", "mnits")
    assert (status, out, len(err.splitlines())) == (2, "", 1)


@pytest.mark.parametrize("variables", [*LEFTOVERS, COMPLETE], ids=lambda variables: " ".join(variables))
def test_what_trains_not_together_works_and_speaks_in_every_process(
    variables: dict[str, str], convatlas: Callable, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each process has its own work, of which no other tells.
    put(monkeypatch, variables)
    page = Image.new("L", (28, 28))
    page.paste(255, (13, 4, 16, 24))
    page.save(tmp_path / "image.png")
    status, out, err = convatlas("predict", run.folder, tmp_path / "image.png")
    assert (status, len(out.splitlines()), err) == (0, 2, "")
    status, out, err = convatlas("evaluate", tmp_path / "nowhere")
    assert (status, out, len(err.splitlines())) == (2, "", 1)


def test_who_trains_together_tells_a_mistake_once_on_each_machine(
    convatlas: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, COMPLETE)
    # Found before the processes meet.
    mistake = ("train", "lenet1", "--class-weights", "none")
    assert convatlas(*mistake) == (2, "", "")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert len(convatlas(*mistake).err.splitlines()) == 1


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "convatlas", *arguments], capture_output=True, text=True, env=os.environ | variables
    )


@pytest.mark.slow
def test_a_notebooks_way_of_drawing_does_not_stop_a_command() -> None:
    done = command("evaluate", "nowhere", MPLBACKEND="module_of_a_notebook")
    assert (done.returncode, done.stderr) == (2, "convatlas: there is no nowhere\n")


@pytest.mark.parametrize(
    "variables",
    [{"COLUMNS": "wide", "TERM": "dumb", "CI": "true"}, {"COLUMNS": "1", "FORCE_COLOR": "1"}, {"COLUMNS": "-5"}],
    ids=str,
)
def test_odd_settings_of_a_terminal_change_no_output_elsewhere(
    variables: dict[str, str], convatlas: Callable, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = convatlas("evaluate", run.folder)
    put(monkeypatch, variables)
    assert convatlas("evaluate", run.folder) == expected
