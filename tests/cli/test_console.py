"""What commands print: JSON without numbers that JSON lacks, and columns in groups."""

from __future__ import annotations

import json
import math

import pytest

from convatlas.cli.console import Column, fitting_groups, print_json, signal_exit


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
