"""What commands print: JSON without numbers that JSON lacks, columns in groups, and names of any kind in them."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

import convatlas.cli
from convatlas.cli.console import Column, fitting_groups, print_json, print_table, short_name, signal_exit


def test_numbers_that_json_lacks_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"lr": 0.1, "losses": [1.5, math.inf, math.nan], "pairs": ((1, -math.inf),), "name": "a"})
    assert json.loads(capsys.readouterr().out) == {
        "lr": 0.1,
        "losses": [1.5, None, None],
        "pairs": [[1, None]],
        "name": "a",
    }


def test_columns_are_in_one_group_where_there_is_no_terminal() -> None:
    columns = [Column(""), *(Column("x" * 50) for _ in range(4))]
    assert fitting_groups(columns, [["row", "1", "2", "3", "4"]]) == [[1, 2, 3, 4]]


@pytest.mark.parametrize(("number", "name"), [(2, "Ctrl-C"), (15, "SIGTERM")])
def test_a_signal_is_named_and_gives_its_status(number: int, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert signal_exit(number, "go on with: x").exit_code == 128 + number
    assert capsys.readouterr().err == f"convatlas: stopped by {name}; go on with: x\n"


def test_columns_are_aligned_beside_characters_of_any_width(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["cat", "猫猫猫", "e\u0301te\u0301", "\x1b[2J"]
    print_table([Column("class"), Column("images", right=True)], [[name, "7"] for name in names])
    _, *lines = capsys.readouterr().out.splitlines()
    assert {cell_len(line) for line in lines} == {len(r"\x1b[2J  images")}


def test_a_long_name_is_short_in_a_terminal_and_whole_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a" * 120 + "b" * 120
    assert short_name(name) == name
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert re.fullmatch("a{30}…b{29}", short_name(name))
    assert short_name("great white shark") == "great white shark"


def test_all_that_commands_print_goes_through_one_door() -> None:
    # It escapes what a terminal would obey.
    printing = re.compile(r"typer\.s?echo|(?<!\.)\bprint\(|std(out|err)\.write")
    files = Path(convatlas.cli.__file__).parent.glob("*.py")
    assert [path.name for path in files if printing.search(path.read_text())] == ["console.py"]
