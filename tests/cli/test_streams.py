"""Names of every kind in every terminal: shown, and never obeyed, and never the end of a command."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convatlas as ca
from convatlas.cli.streams import prepare_streams
from convatlas.formatting import visible
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run
from convatlas.spec import Scale

UNDECODED = b"caf\xe9".decode(errors="surrogateescape")
CLASSES = (UNDECODED, "猫", "\x1b[31mred\x07", "line\nconvatlas: forged")
SHOWN = (r"caf\xe9", "猫", r"\x1b[31mred\x07", r"line\nconvatlas: forged")
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")
"""By a terminal; but for the newline that ends a line."""


def test_streams_that_are_closed_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    prepare_streams()
    for stream in (sys.stdout, sys.stderr):
        print(UNDECODED, file=stream)
        stream.close()


def test_whatever_prints_a_stream_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252", errors="strict"))
    prepare_streams()
    print(f"{UNDECODED} 猫", flush=True)
    assert written.getvalue() == b"caf\\udce9 \\u732b" + os.linesep.encode()


# Commands


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in folders of these names, with names like theirs."""
    if sys.platform != "linux":
        pytest.skip("other systems have no such names")
    root = tmp_path_factory.mktemp("odd") / f"{UNDECODED} \x1b[2J"
    generator = np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for i in range(5):
            pixels = generator.integers(0, 255, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i} {UNDECODED}\n.png", "PNG")
    return root


@pytest.fixture(scope="module")
def odd_run(odd: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("odd run") / f"{UNDECODED} \x1b[2J 猫"
    return ca.train("lenet1", data=odd, scale=Scale(resolution=28), epochs=1, runtime=Runtime(autotune=False), out=out)


def test_odd_names_are_one_line_each(odd: Path, odd_run: Run, convatlas: Callable) -> None:
    images = sorted(odd.rglob("*.png"))
    for options, num_lines in (((), 1 + len(images)), (("--csv",), 1 + len(images))):
        status, out, err = convatlas("predict", odd_run.folder, odd, *options)
        assert (status, err) == (0, "")
        assert not OBEYED.search(out)
        assert len(out.splitlines()) == num_lines
        assert all(name in out for name in SHOWN)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["class_1"] for row in rows} <= set(SHOWN)
    assert {row["image"] for row in rows} == {visible(str(path)) for path in images}
    for verb, num_said in (("evaluate", 1), ("report", 1), ("resume", 0)):
        status, out, err = convatlas(verb, odd_run.folder)
        # It says which images it reads.
        assert (status, len(err.splitlines())) == (0, num_said)
        assert not OBEYED.search(out + err)
        assert r"caf\xe9" in out


def test_json_has_the_very_names_but_for_bytes_that_are_no_text(odd: Path, odd_run: Run, convatlas: Callable) -> None:
    for arguments, num_said in (
        (("evaluate", odd_run.folder), 1),
        (("predict", odd_run.folder, odd), 0),
        (("report", odd_run.folder), 1),
    ):
        status, out, err = convatlas(*arguments, "--json")
        assert (status, len(err.splitlines())) == (0, num_said)
        assert out.isascii()
        # Lone surrogates are no JSON to strict parsers.
        assert not re.search(r"\\ud[89a-f]", out)
        names = json.dumps(json.loads(out), ensure_ascii=False)
        assert all(json.dumps(name, ensure_ascii=False)[1:-1] in names for name in (r"caf\xe9", *CLASSES[1:]))


def test_a_mistake_with_an_odd_name_is_one_line(odd: Path, odd_run: Run, convatlas: Callable) -> None:
    for arguments in (
        ("predict", odd_run.folder, odd / "no\x1b[2J\nwhere.png"),
        ("evaluate", odd / UNDECODED),
        ("train", "lenet1", "--data", "mni\x1b[2Jts\n"),
        ("train", "le\nnet\x1b[2J"),
        ("le\nnet\x1b[2J",),
        ("compress", odd_run.folder, "--bits", "4"),
    ):
        status, out, err = convatlas(*arguments)
        assert (status, out, len(err.splitlines())) == (2, "", 1), arguments
        assert not OBEYED.search(err)


PROGRAM = """
import sys
from convatlas.cli import main
commands = " ".join(sys.argv[1:]).split(" ;; ")
for words in [command.split(" :: ") for command in commands]:
    sys.argv = ["convatlas", *words]
    try:
        main()
    except SystemExit as exit:
        print("status", exit.code, flush=True)
"""


@pytest.mark.parametrize(
    ("encoding", "variables"),
    [
        pytest.param("cp1252", {"PYTHONIOENCODING": "cp1252"}, marks=pytest.mark.slow),
        ("ascii", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
)
def test_no_terminal_ends_a_command(
    encoding: str, variables: dict[str, str], odd: Path, odd_run: Run, tmp_path: Path
) -> None:
    options = ("--resolution", "28", "--epochs", "1", "--no-autotune", "--out", tmp_path / "猫")
    commands = [
        ("predict", odd_run.folder, odd),
        ("predict", odd_run.folder, odd, "--csv"),
        ("predict", odd_run.folder, odd, "--json"),
        ("evaluate", odd_run.folder),
        ("show", "lenet1"),
        ("train", "lenet1", "--data", odd, *options),
        ("train", "--help"),
        ("predict", odd_run.folder, odd / "猫\udce9.png"),
    ]
    words = " ;; ".join(" :: ".join(map(str, command)) for command in commands)
    done = subprocess.run([sys.executable, "-c", PROGRAM, words], capture_output=True, env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    out, err = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert re.findall(r"^status (\d)", out, re.MULTILINE) == ["0"] * 7 + ["2"]
    assert not OBEYED.search(out + err)
    assert r"\u732b" in out
    assert "1x28x28" in out if encoding == "ascii" else "1×28×28" in out
    assert len(err.splitlines()) == 4
