import subprocess
import sys
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files import lock

HOLD = """
import sys
from pathlib import Path
from convatlas.files import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")
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


WAIT = """
import sys
from pathlib import Path
from convatlas.files import lock
print("begun", flush=True)
with lock(Path(sys.argv[1]), wait=True):
    print(Path(sys.argv[1], "note").read_text(), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")
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
