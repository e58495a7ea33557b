"""What the machine does to a run: a full disk, a folder that may not be written, Ctrl-C. Each in a real process."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import convatlas.draw  # noqa: F401  # On a new machine matplotlib looks for fonts once; not here, with a full disk.

resource = pytest.importorskip("resource", reason="Windows limits no files, and its signals only kill")

COMMAND = [sys.executable, "-c", "from convatlas.cli import main; main()"]
TRAIN = [*COMMAND, "train", "lenet1", "--epochs", "2"]


def limit_files_to_1000_bytes() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="there is no folder here that even root may not write")
def test_a_folder_that_may_not_be_written_is_one_line() -> None:
    # /proc takes no new folders, not even from root.
    done = subprocess.run([*TRAIN, "--quiet", "--out", "/proc/run"], capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "/proc/run" in done.stderr


def stopped(number: signal.Signals, *arguments: str) -> str:
    """The last line of a command that gets a signal when a network has learned for an epoch."""
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any(line.startswith("epoch   1/200") for line in process.stderr)
    process.send_signal(number)
    rest = process.communicate()[1]
    assert process.returncode == 128 + number
    return rest.splitlines()[-1]


def test_ctrl_c_saves_exits_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    last = stopped(signal.SIGINT, "train", "lenet1", "--epochs", "200", "--out", str(folder))
    assert last == f"convatlas: stopped by Ctrl-C; continue with: convatlas resume {folder}"
    assert (folder / "checkpoint.safetensors").exists()
    assert not (folder / "weights.safetensors").exists()


@pytest.mark.slow
def test_a_sweep_that_is_stopped_says_that_the_same_command_continues(tmp_path: Path) -> None:
    sweep = ["train", "lenet1", "--epochs", "200", "--sweep", "lr=0.01,0.1", "--out", str(tmp_path / "sweep")]
    last = stopped(signal.SIGTERM, *sweep)
    assert last == "convatlas: stopped by SIGTERM; what was done is kept; the same command continues"


@pytest.mark.slow
def test_a_pipe_that_closes_early_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -c 'from convatlas.cli import main; main()' show lenet5 | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
