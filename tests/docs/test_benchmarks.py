"""The page of benchmarks is that of the committed results, and these are what today's scripts measure."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The script that writes the page; like every program it finds those beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return importlib.import_module("tables")


def test_the_page_is_that_of_the_results(tables: ModuleType) -> None:
    # python benchmarks/tables.py > docs/benchmarks.md
    assert (ROOT / "docs" / "benchmarks.md").read_text() == tables.page()


def test_every_result_stands_on_the_page(tables: ModuleType) -> None:
    page = tables.page()
    for path in (BENCHMARKS / "results").glob("*.json"):
        assert tables.source(json.loads(path.read_text())) in page, path.name


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "results").glob("*.json")), ids=lambda path: path.stem)
def test_a_result_says_how_and_on_what_it_was_measured(path: Path) -> None:
    result = json.loads(path.read_text())
    assert (ROOT / result["command"].removeprefix("python ")).name == f"{path.stem}.py"
    assert result.keys() >= {"command", "date", "machine"}
    assert result["machine"].keys() == {"processor", "cores", "threads", "torch", "capability"}


def test_the_accuracies_are_of_the_rows_that_the_script_has(tables: ModuleType) -> None:
    measured = [
        (row["network"], row["data"], len(row["test_error_percent"]["each"]), row["wanted_percent"],
         row["paper_percent"], row["width"])
        for row in tables.read("accuracy")["rows"]
    ]  # fmt: skip
    assert measured == [tuple(row) for row in tables.accuracy.ROWS]


def test_what_was_made_smaller_is_what_the_script_makes_smaller(tables: ModuleType) -> None:
    compress, rows = tables.compress, tables.read("compress")["rows"]
    assert list(rows) == [*(row.name for row in compress.ROWS), compress.DISTILLATION, compress.UPDATE]
    for row in compress.ROWS:
        figures = rows[row.name]
        assert (figures["network"], figures["data"], figures["width"]) == (row.network, row.data, row.width)
        wanted = ("points_allowed", "times_smaller_wanted", "times_faster_wanted")
        assert tuple(figures[name] for name in wanted) == (row.lost, row.times_smaller, row.times_faster)
        how = ("epochs_of_a_tuning", "rounds", "bits")
        assert tuple(figures[name] for name in how) == (row.epochs, row.rounds, row.bits)
    assert rows[compress.DISTILLATION]["wanted"] == compress.GAIN
    assert rows[compress.UPDATE]["part_allowed"] == compress.PART_ALLOWED
    students = [
        (one["student"], one["width"], one["epochs"], one["temperature"], one["seeds"])
        for one in rows[compress.DISTILLATION]["students"]
    ]
    assert students == [tuple(student) for student in compress.STUDENTS]
    assert all(len(one["points_gained"]) == one["seeds"] for one in rows[compress.DISTILLATION]["students"])


def test_a_benchmark_says_what_was_wanted_and_fails_where_it_was_missed(
    tables: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    met = tables.measured.Target("error", 4.0, 5)
    missed = tables.measured.Target("times smaller", 29.0, 30, at_least=True)
    tables.measured.judge([met])
    with pytest.raises(SystemExit) as ended:
        tables.measured.judge([met, missed])
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        "error: 4, wanted ≤ 5",
        "times smaller: 29, wanted ≥ 30, missed",
    ]


def test_a_bound_is_met_where_it_is_reached_exactly(tables: ModuleType) -> None:
    assert tables.measured.Target("error", 5.0, 5).is_met
    assert not tables.measured.Target("error", 5.01, 5).is_met
    assert tables.measured.Target("times smaller", 30.0, 30, at_least=True).is_met


def test_every_wish_is_judged(tables: ModuleType) -> None:
    rows = tables.read("compress")["rows"]
    judged = {
        name: [one.name.partition(": ")[2] for one in tables.compress.targets(name, row)] for name, row in rows.items()
    }
    assert judged["half the MACs"] == ["points lost", "times as fast"]
    assert judged["int8"] == ["points lost"]
    assert judged["Deep Compression of LeNet"] == ["points lost", "times smaller"]
    assert [len(judged[name]) for name in (tables.compress.DISTILLATION, tables.compress.UPDATE)] == [1, 1]
