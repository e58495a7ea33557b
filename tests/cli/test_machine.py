"""What the machine does to a run: a full disk, a folder that may not be written, Ctrl-C. Each in a real process."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import convatlas.draw  # noqa: F401  # On a new machine matplotlib looks for fonts once; not here, with a full disk.

COMMAND = [sys.executable, "-c", "from convatlas.cli import main; main()"]
TRAIN = [*COMMAND, "train", "lenet1", "--epochs", "2"]


def limit_files_to_1000_bytes() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    # A limit on the size of files is, to a writer, a disk that fills in the middle of a file.
    done = subprocess.run(
        [*TRAIN, "--quiet", "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        preexec_fn=limit_files_to_1000_bytes,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "File too large" in done.stderr
    # Nothing half-written is left behind.
    assert [path.name for path in (tmp_path / "run").iterdir()] == []


@pytest.mark.skipif(not Path("/proc").exists(), reason="there is no folder here that even root may not write")
def test_a_folder_that_may_not_be_written_is_one_line() -> None:
    # /proc takes no new folders, not even from root.
    done = subprocess.run([*TRAIN, "--quiet", "--out", "/proc/run"], capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "/proc/run" in done.stderr


def test_ctrl_c_saves_exits_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [*COMMAND, "train", "lenet1", "--epochs", "200", "--out", str(folder)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch   2/200"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate()[1]
    assert process.returncode == 130
    assert rest.splitlines()[-1] == f"convatlas: stopped by Ctrl-C; continue with: convatlas resume {folder}"
    assert (folder / "checkpoint.safetensors").exists()
    assert not (folder / "weights.safetensors").exists()


def test_a_sweep_that_is_stopped_says_that_the_same_command_continues(tmp_path: Path) -> None:
    sweep = ["train", "lenet1", "--epochs", "200", "--sweep", "lr=0.01,0.1", "--out", str(tmp_path / "sweep")]
    process = subprocess.Popen([*COMMAND, *sweep], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch   1/200"):
            break
    process.send_signal(signal.SIGTERM)
    rest = process.communicate()[1]
    assert process.returncode == 143
    assert rest.splitlines()[-1] == "convatlas: stopped by SIGTERM; what was done is kept; the same command continues"


def test_a_pipe_that_closes_early_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -c 'from convatlas.cli import main; main()' list | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
