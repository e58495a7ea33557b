"""Bars as a person sees them, in a real terminal, and nothing where there is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from convatlas.cli.progress import LineProgress, LoadingBar, LoadingLines, loading_progress
from convatlas.files import SILENT
from convatlas.training.progress import EpochMetrics

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


@pytest.mark.slow
def test_the_bar_of_a_download_names_the_file_and_gives_the_cursor_back(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    shown = on_terminal(DOWNLOADER, web.url("set.gz"), str(tmp_path / "set.gz"))
    assert b"downloading set.gz" in shown
    assert b"10.2/10.2 kB" in shown
    assert shown.count(SHOW_CURSOR) == shown.count(HIDE_CURSOR) == 1
    assert (tmp_path / "set.gz").read_bytes() == CONTENT


@pytest.mark.slow
def test_the_bar_of_a_failed_download_is_gone_before_the_mistake_is_told(refusing: str, tmp_path: Path) -> None:
    shown = on_terminal(DOWNLOADER, refusing, str(tmp_path / "set.gz"))
    assert shown.count(SHOW_CURSOR) == shown.count(HIDE_CURSOR)
    assert b"MISTAKE" in shown
    assert SHOW_CURSOR not in shown or shown.rindex(SHOW_CURSOR) < shown.index(b"MISTAKE")


@pytest.mark.slow
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
    assert type(loading_progress()) is LoadingLines
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(loading_progress(), LoadingBar)
    assert loading_progress(quiet=True) is SILENT


def test_a_bar_shows_a_folders_name_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    bar = LoadingBar()
    # Neither rich's markup nor the terminal's.
    bar.begin("downloading [red]a[/b]\x1b[2J", 10, "bytes")
    bar.end()
    assert r"downloading [red]a[/b]\x1b[2J" in capsys.readouterr().err


# Lines of epochs


def metrics_of(epoch: int, val_accuracy: float | None) -> EpochMetrics:
    metrics: EpochMetrics = {"epoch": epoch, "loss": 1.0, "accuracy": 0.5, "lr": 0.1, "seconds": 1.0}
    return metrics if val_accuracy is None else metrics | {"val_loss": 1.0, "val_accuracy": val_accuracy}


def printed(capsys: pytest.CaptureFixture[str]) -> list[int]:
    """The epochs whose lines were printed."""
    return [int(line.split("/")[0].split()[1]) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("num_epochs", [1, 2, 100, 149])
def test_of_a_training_that_is_not_long_every_epoch_has_its_line(
    num_epochs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = LineProgress()
    for epoch in range(1, num_epochs + 1):
        progress.end_epoch(metrics_of(epoch, None), num_epochs)
        assert printed(capsys) == [epoch]
    progress.close()
    assert printed(capsys) == []


@pytest.mark.parametrize("num_epochs", [150, 604, 1000, 12_345])
def test_of_a_long_training_about_a_hundred_epochs_have_lines(
    num_epochs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = LineProgress()
    for epoch in range(1, num_epochs + 1):
        progress.end_epoch(metrics_of(epoch, None), num_epochs)
    progress.close()
    epochs = printed(capsys)
    assert (epochs[0], epochs[-1]) == (1, num_epochs)
    assert 75 <= len(epochs) <= 125
    # Evenly, but for both ends.
    assert len({after - before for before, after in pairwise(epochs[1:-1])}) == 1


@pytest.mark.parametrize(
    ("best", "last", "end"),
    [(None, 301, [300, 301]), (299, 307, [306, 299, 307]), (300, 305, [300, 305]), (307, 307, [306, 307])],
    ids=["a signal", "patience", "the best has its line", "the best is the last"],
)
def test_the_best_and_the_last_epoch_are_never_lost(
    best: int | None, last: int, end: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = LineProgress()
    for epoch in range(1, last + 1):
        progress.end_epoch(metrics_of(epoch, None if best is None else 0.9 if epoch == best else 0.1), 604)
    progress.close()
    assert printed(capsys)[-len(end) :] == end


def test_the_next_training_begins_anew(capsys: pytest.CaptureFixture[str]) -> None:
    # Compression trains several times.
    progress = LineProgress()
    for accuracy in (0.9, 0.2):
        for epoch, of_this in ((2, accuracy), (3, 0.1)):
            progress.end_epoch(metrics_of(epoch, of_this), 604)
        progress.close()
        assert printed(capsys) == [2, 3]
