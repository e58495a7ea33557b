"""Tables as a person sees them, in a real terminal."""

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals of this kind")


def in_a_terminal(num_columns: int, *arguments: str) -> str:
    """What the command shows in a terminal of so many columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from convatlas.cli import main; main()", *arguments],
        stdout=theirs,
        env={**os.environ, "COLUMNS": str(num_columns), "TERM": "xterm", "NO_COLOR": "1"},
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
    return b"".join(parts).decode()


@pytest.mark.parametrize(
    ("num_columns", "arguments"),
    [
        (80, ["show", "vgg16"]),
        (80, ["claims", "resnet50-v1.5"]),
        (80, ["compare", "alexnet", "squeezenet", "mobilenet", "vgg16", "googlenet"]),
        (60, ["show", "vgg16"]),
    ],
    ids=str,
)
def test_a_narrow_terminal_cuts_no_number(num_columns: int, arguments: list[str], convatlas: Callable) -> None:
    numbers = set(re.findall(r"\d{1,3}(?:,\d{3})+", convatlas(*arguments).out))
    assert len(numbers) > 2
    shown = set(re.findall(r"\d{1,3}(?:,\d{3})+", in_a_terminal(num_columns, *arguments)))
    assert numbers - shown == set()


def lines_in_a_terminal(num_columns: int, *arguments: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", in_a_terminal(num_columns, *arguments)).splitlines()


@pytest.mark.parametrize(
    ("num_columns", "arguments"),
    [
        (80, ["list"]),
        (100, ["list"]),
        (80, ["show", "resnet50"]),
        (60, ["show", "vgg16"]),
        (80, ["compare", "alexnet", "squeezenet", "mobilenet", "vgg16", "googlenet"]),
        (80, ["claims", "alexnet"]),
    ],
    ids=str,
)
def test_no_line_is_wider_than_the_terminal(num_columns: int, arguments: list[str]) -> None:
    lines = lines_in_a_terminal(num_columns, *arguments)
    # An address stays in one piece.
    assert [line for line in lines if len(line) > num_columns and not line.startswith("https://")] == []


def test_a_narrow_terminal_hides_what_matters_least_and_says_so() -> None:
    narrow, wide = ("\n".join(lines_in_a_terminal(num, "show", "resnet50")) for num in (80, 120))
    assert "Hidden in 80 columns: activation, receptive field, stride." in narrow
    assert "receptive field  stride" in wide
    assert "Hidden" not in wide


def test_published_results_stand_below_their_networks_in_a_narrow_terminal() -> None:
    lines = lines_in_a_terminal(80, "list")
    number = next(number for number, line in enumerate(lines) if line.startswith("vgg16 "))
    assert lines[number + 1] == "    27.0 % top-1 error on ILSVRC-2012 validation, single scale 256"
