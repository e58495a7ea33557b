"""A file is there whole, old or new, whatever happens to its writer."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.files import put_folder, write

LIMITED_WRITER = """
import resource, signal, sys
from pathlib import Path
from convatlas.files import write

if sys.argv[2] == "killed":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write(Path(sys.argv[1]), b"n" * 100_000)
except OSError as error:
    sys.exit(f"OSError {error.strerror}")
"""
needs_file_limits = pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files, which Windows cannot")


def write_beyond_limit(path: Path, fate: str) -> subprocess.CompletedProcess[str]:
    """Write 100,000 bytes in a process that may write 4,096; the system refuses the rest or kills it."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED_WRITER, str(path), fate], capture_output=True, text=True, check=False
    )


def test_new_file_holds_the_content_and_nothing_else_is_left(tmp_path: Path) -> None:
    write(tmp_path / "run.json", b"content")
    assert (tmp_path / "run.json").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["run.json"]


def test_shorter_content_replaces_longer_whole(tmp_path: Path) -> None:
    write(tmp_path / "run.json", b"old and long")
    write(tmp_path / "run.json", b"new")
    assert (tmp_path / "run.json").read_bytes() == b"new"


@given(contents=st.lists(st.binary(max_size=300), min_size=1, max_size=3))
def test_last_content_comes_back_unchanged(contents: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip"
    for content in contents:
        write(path, content)
    assert path.read_bytes() == contents[-1]


@pytest.mark.skipif(os.name != "posix", reason="other systems make folders durable by themselves")
def test_a_folder_is_on_the_disk_before_it_is_at_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, place = tmp_path / "part", tmp_path / "place"
    part.mkdir()
    for name in ("a", "b"):
        (part / name).write_text(name)
    before, after = {path.stat().st_ino for path in (part, *part.iterdir())}, {tmp_path.stat().st_ino}
    synced: dict[bool, set[int]] = {False: set(), True: set()}
    sync = os.fsync

    def noting(handle: int) -> None:
        synced[place.exists()].add(os.fstat(handle).st_ino)
        sync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    put_folder(part, place)
    assert synced == {False: before, True: after}
    assert sorted(path.name for path in place.iterdir()) == ["a", "b"]
    part.mkdir()
    with pytest.raises(OSError, match="not empty"):
        put_folder(part, place)
    assert part.exists()


def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".run.json.part").write_bytes(b"left over, and longer than what comes")
    write(tmp_path / "run.json", b"content")
    assert (tmp_path / "run.json").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["run.json"]


@needs_file_limits
def test_write_that_fails_in_the_middle_keeps_the_old_content_and_leaves_no_part(tmp_path: Path) -> None:
    write(tmp_path / "run.json", b"old")
    writer = write_beyond_limit(tmp_path / "run.json", "refused")
    assert writer.stderr.startswith("OSError")
    assert (tmp_path / "run.json").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["run.json"]


@needs_file_limits
def test_first_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    assert write_beyond_limit(tmp_path / "run.json", "refused").returncode == 1
    assert os.listdir(tmp_path) == []


@needs_file_limits
def test_writer_killed_in_the_middle_keeps_the_old_content_and_the_next_write_works(tmp_path: Path) -> None:
    write(tmp_path / "run.json", b"old")
    assert write_beyond_limit(tmp_path / "run.json", "killed").returncode == -signal.SIGXFSZ
    assert (tmp_path / "run.json").read_bytes() == b"old"
    write(tmp_path / "run.json", b"new")
    assert (tmp_path / "run.json").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["run.json"]


def test_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "nowhere" / "run.json", b"content")


def test_path_that_is_a_folder_is_an_os_error_and_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "run.json" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="run"):
        write(tmp_path / "run.json", b"content")
    assert os.listdir(tmp_path) == ["run.json"]
    assert os.listdir(tmp_path / "run.json") == ["inside"]


def test_reader_sees_the_old_or_the_new_content_and_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "state"
    versions = [bytes([i]) * 50_000 for i in range(2)]
    write(path, versions[0])
    seen, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(40):
        write(path, versions[i % 2])
    done.set()
    reader.join()
    assert seen
    assert all(content in versions for content in seen)
