"""Processes of our own code: calls, what goes wrong in them, and that they end with their parent."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.experiments.engine.child_process import ChildProcess, LostProcessError
from convatlas.images.files import ImageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups and no such signals")


@pytest.fixture(scope="module")
def child() -> Iterator[ChildProcess]:
    process = ChildProcess(num_threads=3)
    yield process
    process.kill()


def told(*words: str) -> tuple[str, bool, str, tuple[str, ...]]:
    """The threads, whether this is a process group of its own, standard input, and what was given."""
    print("on standard error")
    return os.environ["OMP_NUM_THREADS"], os.getpgid(0) == os.getpid(), sys.stdin.read(), words


def fail(error: Exception) -> None:
    raise error


def fail_on_an_image() -> None:
    raise ImageError(Path("a.jpg"), "is damaged")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_answers_one_call_after_the_other(child: ChildProcess, capfd: pytest.CaptureFixture[str]) -> None:
    assert child.begin(told, "one", "two")() == ("3", True, "", ("one", "two"))
    assert child.begin(told, "x" * 1_000_000)()[3] == ("x" * 1_000_000,)
    assert capfd.readouterr().out == ""


def test_errors_are_raised_here(child: ChildProcess) -> None:
    with pytest.raises(UserError, match=r"^the folder is locked$"):
        child.begin(fail, UserError("the folder is locked"))()
    with pytest.raises(UserError, match=r"a\.jpg.*is damaged"):
        child.begin(fail_on_an_image)()
    with pytest.raises(OSError, match="No space left") as full:
        child.begin(fail, OSError(errno.ENOSPC, "No space left on device", "runs/x"))()
    assert full.value.filename == "runs/x"
    with pytest.raises(MemoryError):
        child.begin(fail, MemoryError())()
    with pytest.raises(RuntimeError, match="no such key") as bug:
        child.begin(fail, KeyError("no such key"))()
    assert "in fail" in bug.value.__notes__[0]
    # It still answers.
    assert child.begin(told)()


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_line() -> None:
    process = ChildProcess(num_threads=1)
    with pytest.raises(LostProcessError, match=r"a process ended with status -9; what was done is kept"):
        process.begin(killed)()
    process.kill()


PARENT = """
import sys
from convatlas.experiments.engine.child_process import ChildProcess

child = ChildProcess(num_threads=1)
child.begin(exec, "import time; print('at work', flush=True); time.sleep(600)")
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_process_at_work_ends_with_a_killed_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert parent.stderr is not None
    assert parent.stderr.readline() == "at work\n"
    parent.kill()
    # Standard error is at its end when both have ended.
    assert parent.communicate(timeout=20) == (None, "")
