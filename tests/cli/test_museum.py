"""convatlas museum: what a person and a program see."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from convatlas import museum
from convatlas.museum import Built
from convatlas.museum.folder import put


def test_building_says_where_it_is(
    convatlas: Callable, as_json: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def build(out: Path, **options: object) -> Built:
        options.pop("progress")
        asked.append((out, *options.values()))
        return Built(folder=out, num_files=3, num_bytes=2048)

    monkeypatch.setattr(museum, "build", build)
    assert as_json("museum", "build", "--out", tmp_path) == {"folder": str(tmp_path), "files": 3, "bytes": 2048}
    words = {
        "--experiments": "results",
        "--lenet5": "a",
        "--lenet1989": "b",
        "--lenet5-modern": "c",
        "--artefact": "d",
        "--onnxruntime-web": "e",
        "--docs": "..",
    }
    answer = convatlas("museum", "build", "--out", tmp_path, *(part for pair in words.items() for part in pair))
    assert str(tmp_path / "index.html") in answer.out
    assert asked == [(tmp_path, *[None] * 7), (tmp_path, Path("results"), *map(Path, "abcde"), "..")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("build", "--out", "{}"),
            "holds something else than a museum, as thesis.tex; choose a folder that is new or empty",
        ),
        (("build", "--out", "{}/new", "--experiments", "{}"), "holds no results; convatlas experiment run --all --out"),
        (
            ("build", "--out", "{}/new", "--lenet5", "{}"),
            "is not a run or model folder: it has no run.json and no model.json",
        ),
        (("build", "--out", "{}/new", "--lenet5", "{}/nowhere"), "nowhere"),
        (("build", "--out", "{}/new", "--onnxruntime-web", "{}/a"), "runs an artefact in the page; give one"),
        (("build", "--out", "{}/new", "--artefact", "{}"), "is not an artefact: it has no artefact.json"),
        (("build", "--out", "{}/new", "--docs", "data:,"), "'data:,' is no address of a page"),
        (("open", "{}"), "holds no museum (museum.json); convatlas museum build --out"),
        (("open", "{}/nowhere"), "holds no museum (museum.json); convatlas museum build --out"),
        (("open", "--port", "70000"), "Invalid value for '--port'"),
    ],
    ids=[
        "occupied",
        "no results",
        "no run",
        "no file",
        "nothing to run",
        "no artefact",
        "no address",
        "no museum",
        "nowhere",
        "no port",
    ],
)
def test_mistakes_are_one_line(convatlas: Callable, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    answer = convatlas("museum", *(word.format(tmp_path) for word in words))
    assert answer.status == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no Ctrl-C for one process")
def test_ctrl_c_ends_the_server_with_one_line(tmp_path: Path) -> None:
    put(tmp_path / "site", {"index.html": b""})
    words = [sys.executable, "-u", "-m", "convatlas", "museum", "open", tmp_path / "site"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert re.match(r"http://127\.0\.0\.1:\d+/  \(Ctrl-C ends it\)", process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "convatlas: stopped by Ctrl-C\n")
