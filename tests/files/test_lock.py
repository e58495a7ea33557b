"""A folder has one writer at a time, whatever becomes of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files import clear_lock, lock

HOLD = """
import sys
from pathlib import Path
from convatlas.files import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_has_one_writer_and_a_killed_one_is_none(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another process is writing"), lock(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_nobody_holds_is_cleared_and_another_stays(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    clear_lock(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with lock(tmp_path):
        clear_lock(tmp_path)
        assert (tmp_path / ".lock").exists()


WAIT = """
import sys
from pathlib import Path
from convatlas.files import lock
print("begun", flush=True)
with lock(Path(sys.argv[1]), wait=True):
    print(Path(sys.argv[1], "note").read_text(), flush=True)
"""


def test_whoever_waits_comes_after_the_others_work(tmp_path: Path) -> None:
    waiting = []
    with lock(tmp_path):
        for _ in range(3):
            command = [sys.executable, "-c", WAIT, str(tmp_path)]
            waiting.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        for process in waiting:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        # Whoever did not wait would find nothing to read.
        (tmp_path / "note").write_text("done")
    for process in waiting:
        assert process.communicate()[0] == "done\n"
        assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    with lock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_has_one_writer_within_a_process_too(tmp_path: Path) -> None:
    with lock(tmp_path):
        with pytest.raises(UserError, match=f"another process is writing to {tmp_path} now"), lock(tmp_path):
            pass
        # Still held by the first.
        with pytest.raises(UserError), lock(tmp_path):
            pass
    with lock(tmp_path):
        pass


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with lock(tmp_path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="what is open cannot be removed")
def test_a_folder_may_vanish_under_its_writer_and_comes_back_for_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with lock(folder):
        command = [
            sys.executable,
            "-c",
            WAIT.replace('print(Path(sys.argv[1], "note").read_text()', "print(1"),
            str(folder),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        shutil.rmtree(folder)
    assert process.communicate()[0] == "1\n"
    assert process.returncode == 0
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"), lock(tmp_path / "file"):
        pass


STORM = """
import sys
from pathlib import Path
from convatlas.files import lock
counter = Path(sys.argv[1], "..", "counter")
for _ in range(50):
    with lock(Path(sys.argv[1]), wait=True):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    command = [sys.executable, "-c", STORM, str(tmp_path / "folder")]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "counter").read_text() == "200"
