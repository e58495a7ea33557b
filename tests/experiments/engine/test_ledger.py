"""Results on disk: what was measured is not measured again, unless its threshold or version changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convatlas.draw import Bars, Chart, Lines, Series, Surface
from convatlas.errors import UserError
from convatlas.experiments import Budget, Statement, Topic, TopicResult, Verdict, find
from convatlas.experiments.engine import ledger
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.ledger import threshold_from
from convatlas.experiments.engine.statement import NotTestable
from convatlas.experiments.engine.verdict import Measurement, Threshold, at_least, at_most, exactly
from convatlas.files import lock
from convatlas.files.sealed_json import SHA256

EARLIER = Path(__file__).parents[2] / "formats" / "experiments" / "zip-codes"

CHARTS = (
    Lines(name="lines", title="Lines", x="x", y="y", series=(Series("a", (1.0, 2.0), (3.0, 4.0), (0.1, 0.2)),)),
    Bars(name="bars", title="Bars", y="y", labels=("a", "b"), series=(Series("c", (), (1.0, 2.0)),)),
    Surface(
        name="surface", title="Surface", x="x", y="y", places=(-1.0, 1.0), panels=(("p", ((1.0, 2.0), (3.0, 4.0))),)
    ),
)


class Counting:
    """A measurement that counts how often it is made."""

    def __init__(self, *values: float, charts: tuple[Chart, ...] = CHARTS[:1]) -> None:
        self.values, self.charts, self.count = values, charts, 0

    def __call__(self, setting: Setting) -> Measurement:
        self.count += 1
        return Measurement(values=self.values, figures=(("name", "1.5 s"),), charts=self.charts, note="a note")


def statement(name: str, measure: Callable[[Setting], Measurement]) -> Statement:
    return Statement(id=name, text=f"text of {name}", statistic="statistic", threshold=at_least(1), measure=measure)


def topic(*statements: Statement) -> Topic:
    return Topic(
        id="some",
        title="Some",
        summary="c",
        source="s",
        method="d",
        limitations="l",
        minutes=(0.1, 0.1),
        statements=statements,
    )


def verdicts(result: TopicResult) -> list[tuple[str, Verdict]]:
    return [(one.statement.id, one.verdict) for one in result.statements]


@pytest.mark.usefixtures("drawn")
def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    def cannot(setting: Setting) -> Measurement:
        raise NotTestable("why")

    three = topic(
        statement("one", Counting(2.0, 2.5, charts=CHARTS)), statement("two", Counting(0.5)), statement("three", cannot)
    )
    result = ledger.run(three, out=tmp_path)
    assert verdicts(result) == [
        ("one", Verdict.REPRODUCED), ("two", Verdict.NOT_REPRODUCED), ("three", Verdict.NOT_TESTABLE),
    ]  # fmt: skip
    assert ledger.read(three, tmp_path / "some") == result
    # Charts for a teacher: text in the one, pixels in the other.
    for chart in CHARTS:
        assert b"<svg" in (tmp_path / "some" / f"{chart.name}.svg").read_bytes()
        assert (tmp_path / "some" / f"{chart.name}.png").read_bytes().startswith(b"\x89PNG")
    values = json.loads((tmp_path / "some" / "result.json").read_text())
    assert (values["verdict"], values["num_seeds"], values["budget"]) == ("not reproduced", 3, "quick")
    first = values["statements"][0]
    assert (first["id"], first["version"], first["threshold"]) == ("one", 1, {"low": 1, "high": None})
    assert (first["measurement"]["n"], first["measurement"]["std"]) == (2, pytest.approx(0.5 / 2**0.5))
    for one in values["statements"]:
        assert {"processor", "cores", "threads"} <= one["machine"].keys()
        assert {"torch", "convatlas"} <= one["versions"].keys()


def test_a_finished_statement_is_not_measured_twice(tmp_path: Path) -> None:
    first, second = Counting(2.0), Counting(3.0)
    # Killed after the first statement.
    ledger.run(topic(statement("one", first)), out=tmp_path)
    whole = topic(statement("one", first), statement("two", second))
    result = ledger.run(whole, out=tmp_path)
    assert (first.count, second.count) == (1, 1)
    assert ledger.run(whole, out=tmp_path) == result
    assert (first.count, second.count) == (1, 1)


def test_one_process_measures_a_topic(tmp_path: Path) -> None:
    folder = tmp_path / topic().id
    with lock(folder), pytest.raises(UserError, match="another process is writing to"):
        ledger.run(topic(statement("one", Counting(2.0))), out=tmp_path)
    # By a process that was killed.
    (folder / ".lock").touch()
    ledger.run(topic(statement("one", Counting(2.0))), out=tmp_path)
    assert not (folder / ".lock").exists()


def test_other_results_stay_where_an_earlier_statement_is_measured_again(tmp_path: Path) -> None:
    first, second, third = Counting(2.0), Counting(3.0), Counting(4.0)
    one, two, three = statement("one", first), statement("two", second), statement("three", third)
    before = ledger.run(topic(one, two, three), out=tmp_path)

    def killed(setting: Setting) -> Measurement:
        raise KeyboardInterrupt

    # One is measured again, then two as well and is killed: neither loses three.
    moved = replace(one, threshold=at_least(5))
    with pytest.raises(KeyboardInterrupt):
        ledger.run(topic(moved, replace(two, version=2, measure=killed), three), out=tmp_path)
    kept = ledger.read(topic(moved, three), tmp_path / "some")
    assert verdicts(kept) == [("one", Verdict.NOT_REPRODUCED), ("three", Verdict.REPRODUCED)]
    assert kept.statements[1] == before.statements[2]
    ledger.run(topic(moved, two, three), out=tmp_path)
    assert (first.count, second.count, third.count) == (2, 2, 1)


def test_each_budget_has_a_result_of_its_own(tmp_path: Path) -> None:
    counting = Counting(2.0)
    one = topic(statement("one", counting))
    quick = ledger.run(one, out=tmp_path)
    full = ledger.run(one, Budget.FULL, out=tmp_path, num_seeds=5)
    assert counting.count == 2
    assert ledger.read(one, tmp_path / "some") == quick
    assert ledger.read(one, tmp_path / "some" / "full") == full
    assert (tmp_path / "some" / "full" / "lines.svg").exists()


def test_other_seeds_do_not_overwrite_a_result(tmp_path: Path) -> None:
    one = topic(statement("one", Counting(2.0)))
    before = ledger.run(one, out=tmp_path)
    with pytest.raises(UserError, match="a result of budget quick with 3 seeds, which would be overwritten"):
        ledger.run(one, out=tmp_path, num_seeds=5)
    assert ledger.read(one, tmp_path / "some") == before


@pytest.mark.parametrize("change", [{"threshold": at_least(5)}, {"version": 2}])
def test_another_threshold_or_version_is_measured_again(change: dict[str, Any], tmp_path: Path) -> None:
    counting = Counting(2.0)
    before = statement("one", counting)
    ledger.run(topic(before), out=tmp_path)
    # A threshold cannot be moved under a result.
    moved = topic(replace(before, **change))
    assert ledger.read(moved, tmp_path / "some").statements == ()
    ledger.run(moved, out=tmp_path)
    assert counting.count == 2


def test_a_reworded_statement_keeps_its_result(tmp_path: Path) -> None:
    counting = Counting(2.0)
    before = statement("one", counting)
    ledger.run(topic(before), out=tmp_path)
    reworded = topic(replace(before, text="other words", statistic="the same in other words"))
    assert verdicts(ledger.run(reworded, out=tmp_path)) == [("one", Verdict.REPRODUCED)]
    assert counting.count == 1


def test_callbacks_follow_each_statement(tmp_path: Path) -> None:
    calls: list[str] = []
    ledger.run(
        topic(statement("one", Counting(2.0)), statement("two", Counting(2.0))),
        out=tmp_path,
        on_statement_begin=lambda statement: calls.append(f"{statement.id} begins"),
        on_statement_end=lambda result: calls.append(f"{result.statement.id} ends"),
    )
    assert calls == ["one begins", "one ends", "two begins", "two ends"]


def test_no_seed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`num_seeds` 0 measures nothing; it must be at least 1"):
        ledger.run(topic(statement("one", Counting(1.0))), out=tmp_path, num_seeds=0)


# --- earlier formats ---------------------------------------------------------------------------------------------


def test_a_result_of_format_2_is_read() -> None:
    values = json.loads((EARLIER / "result.json").read_text())
    assert values["format"] == 2
    result = ledger.read(find("zip-codes"), EARLIER)
    assert (result.budget, result.num_seeds) == (Budget.FULL, 3)
    # Its words are of then, and do not matter.
    assert [one.statement.id for one in result.statements] == [part["id"] for part in values["parts"]]
    for one, part in zip(result.statements, values["parts"], strict=True):
        assert (one.verdict, one.reason, one.seconds) == (part["verdict"], part["reason"], part["seconds"])
        assert (one.conditions.when, one.conditions.machine) == (part["when"], part["machine"])
        assert one.measurement is not None
        assert (one.measurement.mean, one.measurement.std) == (part["measured"]["mean"], part["measured"]["deviation"])
        assert [list(row) for row in one.measurement.figures] == part["measured"]["figures"]
        assert len(one.measurement.charts) == len(part["measured"]["charts"])


def test_format_1_had_the_conditions_once_for_all(tmp_path: Path) -> None:
    values = json.loads((EARLIER / "result.json").read_text())
    shared = [{name: part.pop(name) for name in ("when", "machine", "versions")} for part in values["parts"]]
    folder = tmp_path / "zip-codes" / "full"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(values | shared[0] | {"when": "2001-02-03", "format": 1}))
    before = ledger.read(find("zip-codes"), folder)
    assert {one.conditions.when for one in before.statements} == {"2001-02-03"}
    # Written again, each statement has its own.
    first, *rest = find("zip-codes").statements
    again = replace(first, measure=Counting(4.0), version=2)
    after = ledger.run(replace(find("zip-codes"), statements=(again, *rest)), Budget.FULL, out=tmp_path)
    assert after.statements[0].conditions.when != "2001-02-03"
    assert after.statements[1:] == before.statements[1:]
    values = json.loads((folder / "result.json").read_text())
    assert "when" not in values
    assert values["statements"][1]["when"] == "2001-02-03"


@pytest.mark.at_once(
    "threshold", [at_least(-0.5), at_most(1e-9), exactly(60_965_224), exactly(0), Threshold(0.9, 1.1), Threshold(-2, 3)]
)
def test_a_threshold_is_read_from_its_words(threshold: Threshold) -> None:
    assert threshold_from(str(threshold)) == threshold


@pytest.mark.at_once("text", ["", "at least", "at least one", "1", "1 to", "at most 1 to 2", "exactly 1 2"])
def test_other_words_are_no_threshold(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a threshold|could not convert"):
        threshold_from(text)


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is damaged or was not written by convatlas"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        ('{"format": 99}', "written by a newer convatlas"),
        ('{"format": 1, "id": "other", "parts": [], "seeds": 1}', "is a result of the topic other"),
        ('{"format": 1, "id": "some", "parts": [{"id": "one"}], "budget": "vast", "seeds": 1}', "is damaged"),
        ('{"format": 3, "id": "some", "statements": [], "budget": "vast", "num_seeds": 1}', "is damaged"),
        ('{"format": 3, "id": "some", "statements": [{"id": 1}], "budget": "quick"}', "is damaged"),
    ],
)
def test_a_damaged_result_is_one_line(content: str, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "result.json").write_text(content)
    with pytest.raises(UserError, match=words):
        ledger.run(topic(statement("one", Counting(1.0))), out=tmp_path)


@pytest.mark.parametrize(
    ("place", "value"), [("verdict", "not reproduced"), ("measurement", None), ("values", [0.5]), ("values", ["2"])]
)
def test_a_verdict_must_be_that_of_its_values(place: str, value: object, tmp_path: Path) -> None:
    one = topic(statement("one", Counting(2.0)))
    ledger.run(one, out=tmp_path)
    path = tmp_path / "some" / "result.json"
    written = json.loads(path.read_text())
    # Whoever forges a file leaves its checksum out.
    del written[SHA256]
    (found,) = written["statements"]
    (found["measurement"] if place == "values" else found)[place] = value
    path.write_text(json.dumps(written))
    with pytest.raises(UserError, match="is damaged or was not written by convatlas"):
        ledger.read(one, tmp_path / "some")


def test_where_there_is_no_result_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="convatlas experiment run some makes one"):
        ledger.read(topic(statement("one", Counting(1.0))), tmp_path / "some")
