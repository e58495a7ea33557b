"""Bars as a person sees them, in a real terminal, and nothing where there is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from convatlas.cli.progress import LoadingBar, loading_progress
from convatlas.files import SILENT

CONTENT = bytes(range(256)) * 40
DOWNLOADER = """
import sys
from pathlib import Path
from convatlas.errors import UserError
from convatlas.cli.progress import LoadingBar
from convatlas.files import download

try:
    download(sys.argv[1], Path(sys.argv[2]), progress=LoadingBar())
except UserError:
    print("MISTAKE", file=sys.stderr)
"""
HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"

LOADER = """
import sys
from pathlib import Path
from convatlas.cli.progress import LoadingBar
from convatlas.data import find

find(sys.argv[1]).load(8, seed=0, progress=LoadingBar())
print("LOADED", file=sys.stderr)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")


@pytest.fixture
def refusing() -> str:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/set.gz"


def on_terminal(script: str, *arguments: str) -> bytes:
    """What a terminal shows of a script in a process of its own."""
    import pty

    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen:
        with open(theirs, "wb", buffering=0) as terminal:
            process = subprocess.Popen(
                [sys.executable, "-c", script, *arguments],
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


def test_the_bar_of_a_download_names_the_file_and_gives_the_cursor_back(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    shown = on_terminal(DOWNLOADER, web.url("set.gz"), str(tmp_path / "set.gz"))
    assert b"downloading set.gz" in shown
    assert b"10.2/10.2 kB" in shown
    assert shown.count(SHOW_CURSOR) == shown.count(HIDE_CURSOR) == 1
    assert (tmp_path / "set.gz").read_bytes() == CONTENT


def test_the_bar_of_a_failed_download_is_gone_before_the_mistake_is_told(refusing: str, tmp_path: Path) -> None:
    shown = on_terminal(DOWNLOADER, refusing, str(tmp_path / "set.gz"))
    assert shown.count(SHOW_CURSOR) == shown.count(HIDE_CURSOR)
    assert b"MISTAKE" in shown
    assert SHOW_CURSOR not in shown or shown.rindex(SHOW_CURSOR) < shown.index(b"MISTAKE")


def test_the_bars_of_decoding_count_images_and_go(tmp_path: Path, write_images: Callable, decoded_cache: Path) -> None:
    classes = {
        name: [Image.new("RGB", (64, 64), (10 * i, len(name), ord(name[0]))) for i in range(5)]
        for name in ("cat", "dog")
    }
    shown = on_terminal(LOADER, str(write_images(tmp_path / "animals", classes)))
    assert b"decoding animals" in shown
    assert b"10/10" in shown
    # Those to evaluate on, exactly.
    assert b"decoding animals for evaluation" in shown
    assert shown.count(SHOW_CURSOR) == shown.count(HIDE_CURSOR) == 2
    assert shown.rstrip().endswith(b"LOADED")


def test_nothing_is_shown_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert loading_progress() is SILENT
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(loading_progress(), LoadingBar)
    assert loading_progress(quiet=True) is SILENT
    # Of the processes that train together one speaks.
    monkeypatch.setenv("RANK", "1")
    assert loading_progress() is SILENT
