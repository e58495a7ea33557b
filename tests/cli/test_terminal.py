"""Tables as a person sees them, in a real terminal."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals of this kind")

COMPARED = ("compare", "alexnet", "squeezenet", "mobilenet", "vgg16", "googlenet")
WHOLE = [(60, ("show", "vgg16")), (80, COMPARED), (80, ("show", "vgg16")), (80, ("claims", "resnet50-v1.5"))]
WITHIN = [
    *((80, ("list",)), (100, ("list",)), (80, ("show", "resnet50")), (60, ("show", "vgg16")), (80, COMPARED)),
    (80, ("claims", "alexnet")),
]
WIDE = (120, ("show", "resnet50"))
# One process shows all of it: to start one takes seconds.
PROGRAM = """
import json, os, sys
from convatlas.cli import main
for num_columns, words in json.loads(sys.argv[1]):
    os.environ["COLUMNS"] = str(num_columns)
    sys.argv = ["convatlas", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
    print(end="\\0", flush=True)
"""


@pytest.fixture(scope="module")
def in_a_terminal() -> Callable[..., str]:
    """`in_a_terminal(80, ("show", "vgg16"))` is what the command shows in a terminal of so many columns."""
    asked = list(dict.fromkeys([*WHOLE, *WITHIN, WIDE]))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(asked)],
        stdout=theirs,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:
        pass  # How Linux says that the other side is closed; elsewhere nothing comes.
    os.close(ours)
    assert process.wait() == 0
    shown = dict(zip(asked, b"".join(parts).decode().split("\0")[:-1], strict=True))
    return lambda *command: shown[command]


@pytest.mark.parametrize(
    ("num_columns", "arguments"),
    [*WHOLE[:2], *(pytest.param(*case, marks=pytest.mark.slow) for case in WHOLE[2:])],
    ids=str,
)
def test_a_narrow_terminal_cuts_no_number(
    num_columns: int, arguments: tuple[str, ...], convatlas: Callable, in_a_terminal: Callable[..., str]
) -> None:
    numbers = set(re.findall(r"\d{1,3}(?:,\d{3})+", convatlas(*arguments).out))
    assert len(numbers) > 2
    shown = set(re.findall(r"\d{1,3}(?:,\d{3})+", in_a_terminal(num_columns, arguments)))
    assert numbers - shown == set()


@pytest.fixture(scope="module")
def lines_in_a_terminal(in_a_terminal: Callable[..., str]) -> Callable[..., list[str]]:
    return lambda *command: re.sub(r"\x1b\[[0-9;]*m", "", in_a_terminal(*command)).splitlines()


@pytest.mark.parametrize(("num_columns", "arguments"), WITHIN, ids=str)
def test_no_line_is_wider_than_the_terminal(
    num_columns: int, arguments: tuple[str, ...], lines_in_a_terminal: Callable[..., list[str]]
) -> None:
    lines = lines_in_a_terminal(num_columns, arguments)
    # An address stays in one piece.
    assert [line for line in lines if len(line) > num_columns and not line.startswith("https://")] == []


def test_a_narrow_terminal_hides_what_matters_least_and_says_so(lines_in_a_terminal: Callable[..., list[str]]) -> None:
    narrow, wide = ("\n".join(lines_in_a_terminal(num, ("show", "resnet50"))) for num in (80, 120))
    assert "Hidden in 80 columns: activation, receptive field, stride." in narrow
    assert "receptive field  stride" in wide
    assert "Hidden" not in wide


def test_published_results_stand_below_their_networks_in_a_narrow_terminal(
    lines_in_a_terminal: Callable[..., list[str]],
) -> None:
    lines = lines_in_a_terminal(80, ("list",))
    number = next(number for number, line in enumerate(lines) if line.startswith("vgg16 "))
    assert lines[number + 1] == "    27.0 % top-1 error on ILSVRC-2012 validation, single scale 256"
