"""Downloads arrive whole and checked, or not at all."""

from __future__ import annotations

import gc
import hashlib
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files import download

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()

DOWNLOADER = """
import sys
from pathlib import Path
from convatlas.errors import UserError
from convatlas.files import download

try:
    download(sys.argv[1], Path(sys.argv[2]))
except UserError:
    print("MISTAKE", file=sys.stderr)
"""
HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


@pytest.fixture
def refusing() -> str:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/set.gz"


def complaint(url: str, destination: Path, md5: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        download(url, destination, md5=md5)
    message = str(caught.value)
    assert "\n" not in message
    return message


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("md5", [None, MD5])
def test_file_arrives_whole_in_a_folder_made_for_it(web, tmp_path: Path, md5: str | None) -> None:
    web.files["set.gz"] = CONTENT
    destination = tmp_path / "new" / "folder" / "set.gz"
    assert download(web.url("set.gz"), destination, md5=md5) == destination
    assert destination.read_bytes() == CONTENT
    assert files_below(tmp_path) == [destination]


@pytest.mark.parametrize("md5", [None, MD5])
def test_file_that_is_there_is_left_alone_and_nothing_is_asked_for(web, tmp_path: Path, md5: str | None) -> None:
    web.files["set.gz"] = CONTENT
    (tmp_path / "set.gz").write_bytes(b"mine")
    assert download(web.url("set.gz"), tmp_path / "set.gz", md5=md5).read_bytes() == b"mine"
    assert web.asked == []


def test_destination_may_have_another_name_than_the_address(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    assert download(web.url("set.gz"), tmp_path / "other").read_bytes() == CONTENT


def test_wrong_checksum_is_a_mistake_and_leaves_nothing(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT[:-1]
    message = complaint(web.url("set.gz"), tmp_path / "cache" / "set.gz", MD5)
    assert message == f"{web.url('set.gz')} sent another file than expected (its checksum differs)"
    assert files_below(tmp_path) == []


def test_missing_page_names_the_address_and_the_way_out_and_leaves_nothing(web, tmp_path: Path) -> None:
    destination = tmp_path / "cache" / "set.gz"
    message = complaint(web.url("set.gz"), destination)
    assert message.startswith(f"{web.url('set.gz')} could not be fetched")
    assert message.endswith(f"check the network, or put the file at {destination} yourself")
    assert files_below(tmp_path) == []


def test_refused_connection_is_a_mistake_and_leaves_nothing(refusing: str, tmp_path: Path) -> None:
    message = complaint(refusing, tmp_path / "cache" / "set.gz")
    assert message.startswith(f"{refusing} could not be fetched")
    assert files_below(tmp_path) == []


def test_answer_cut_short_is_a_mistake_and_leaves_nothing(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    web.cut_short.add("set.gz")
    message = complaint(web.url("set.gz"), tmp_path / "cache" / "set.gz")
    assert message.startswith(f"{web.url('set.gz')} could not be fetched")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("failure", ["missing", "cut short", "other content"])
def test_failed_download_leaves_no_connection_open(failure: str, web, tmp_path: Path) -> None:
    if failure != "missing":
        web.files["set.gz"] = CONTENT
    if failure == "cut short":
        web.cut_short.add("set.gz")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        complaint(web.url("set.gz"), tmp_path / "set.gz", hashlib.md5(b"").hexdigest())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize("url", ["no-address", "http://", "nonsense://127.0.0.1/set.gz"])
def test_address_that_is_none_is_a_mistake(url: str, tmp_path: Path) -> None:
    assert complaint(url, tmp_path / "set.gz").startswith(f"{url} could not be fetched")


def test_second_try_works_after_a_failure(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    web.cut_short.add("set.gz")
    complaint(web.url("set.gz"), tmp_path / "set.gz", MD5)
    web.cut_short.clear()
    assert download(web.url("set.gz"), tmp_path / "set.gz", md5=MD5).read_bytes() == CONTENT


def test_nothing_is_printed_where_standard_error_is_no_terminal(
    web, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    web.files["set.gz"] = CONTENT
    download(web.url("set.gz"), tmp_path / "set.gz")
    assert capfd.readouterr() == ("", "")


def on_terminal(url: str, destination: Path) -> bytes:
    """What a terminal shows while a process of its own downloads."""
    import pty

    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen:
        with open(theirs, "wb", buffering=0) as terminal:
            process = subprocess.Popen(
                [sys.executable, "-c", DOWNLOADER, url, str(destination)],
                stderr=terminal,
                env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
            )
        shown = b""
        try:
            while part := screen.read(65536):
                shown += part
        except OSError:  # Linux: how a terminal ends that no process has open any more
            pass
        assert process.wait() == 0
    return shown


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_bar_on_a_terminal_names_the_file_and_gives_the_cursor_back(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    shown = on_terminal(web.url("set.gz"), tmp_path / "set.gz")
    assert b"downloading set.gz" in shown
    assert b"10.2/10.2 kB" in shown
    assert shown.count(SHOW_CURSOR) == shown.count(HIDE_CURSOR) == 1
    assert (tmp_path / "set.gz").read_bytes() == CONTENT


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_bar_of_a_failed_download_is_gone_before_the_mistake_is_told(refusing: str, tmp_path: Path) -> None:
    shown = on_terminal(refusing, tmp_path / "set.gz")
    assert shown.count(SHOW_CURSOR) == shown.count(HIDE_CURSOR)
    assert shown.rindex(SHOW_CURSOR) < shown.index(b"MISTAKE")
