"""Results on disk: what was measured is not measured again, unless what it asks changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convatlas import data
from convatlas.draw import Bars, Chart, Lines, Series, Surface
from convatlas.errors import UserError
from convatlas.experiments import Budget, Statement, Topic, TopicResult, Watch
from convatlas.experiments.engine import ledger
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.estimate import counted, repeated
from convatlas.experiments.engine.statement import Measurement
from convatlas.experiments.engine.verdict import State, at_least
from convatlas.files import lock
from convatlas.files.sealed_json import SHA256
from convatlas.training import Request

CHARTS = (
    Lines(name="lines", title="Lines", x="x", y="y", series=(Series("a", (1.0, 2.0), (3.0, 4.0), (0.1, 0.2)),)),
    Bars(name="bars", title="Bars", y="y", labels=("a", "b"), series=(Series("c", (), (1.0, 2.0)),)),
    Surface(
        name="surface", title="Surface", x="x", y="y", places=(-1.0, 1.0), panels=(("p", ((1.0, 2.0), (3.0, 4.0))),)
    ),
)
ANSWERS = Answers(np.array([0, 1], np.uint8), {"net": np.array([[0, 0], [0, 1]], np.uint8)})


class Counting:
    """A measurement that counts how often it is made."""

    def __init__(self, *values: float, charts: tuple[Chart, ...] = CHARTS[:1], failed: str = "") -> None:
        self.values, self.charts, self.failed, self.count = values, charts, failed, 0

    def __call__(self, setting: Setting) -> Measurement:
        self.count += 1
        return Measurement(
            estimate=repeated(self.values) if len(self.values) > 1 else counted(*self.values),
            failed=self.failed,
            figures=(("name", "1.5 s"),),
            charts=self.charts,
            note="a note",
            answers=ANSWERS,
        )


def statement(name: str, measure: Callable[[Setting], Measurement], **more: Any) -> Statement:
    return Statement(
        id=name, text=f"text of {name}", statistic="statistic", threshold=at_least(1), measure=measure, **more
    )


def topic(*statements: Statement, name: str = "some") -> Topic:
    return Topic(
        id=name,
        title="Some",
        summary="c",
        source="s",
        method="d",
        limitations="l",
        minutes_quick=0.1,
        minutes_full=0.1,
        statements=statements,
    )


def states(result: TopicResult) -> dict[str, State]:
    return {one.statement.id: result.states[one.statement.id] for one in result.results}


def trained_on(name: str) -> Callable[[Setting], dict[str, Arm]]:
    return lambda setting: {"it": Arm(request=lambda seed: Request(network="lenet5", data=name, seed=seed))}


def file_of(out: Path, budget: str = "quick") -> Path:
    return out / "some" / budget / "result.json"


@pytest.mark.usefixtures("drawn")
def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    three = topic(
        statement("one", Counting(2.0, 2.001, charts=CHARTS)),
        statement("two", Counting(0.5)),
        statement("three", Counting(2.0, failed="it has not learned")),
        statement("four", Counting(1.0), needs=Budget.STANDARD, minutes=46),
    )
    result = ledger.run(three, out=tmp_path)
    assert result.states == {
        "one": State.CONFIRMED, "two": State.CONTRADICTED, "three": State.INVALID, "four": State.NOT_RUN,
    }  # fmt: skip
    assert result.missing == {"four": "needs standard, 46 min"}
    assert ledger.read(three, Budget.QUICK, tmp_path) == result
    # Charts for a teacher: text in the one, pixels in the other.
    for chart in CHARTS:
        assert b"<svg" in file_of(tmp_path).with_name(f"{chart.name}.svg").read_bytes()
        assert file_of(tmp_path).with_name(f"{chart.name}.png").read_bytes().startswith(b"\x89PNG")
    values = json.loads(file_of(tmp_path).read_text())
    assert (values["verdict"], values["num_seeds"], values["budget"]) == ("disputed", 3, "quick")
    first = values["statements"][0]
    assert (first["id"], first["verdict"], first["threshold"]) == ("one", "confirmed", {"low": 1, "high": None})
    assert first["low"] < first["estimate"]["center"] < first["high"]
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
    folder = tmp_path / "some" / "quick"
    with lock(folder), pytest.raises(UserError, match="another process is writing to"):
        ledger.run(topic(statement("one", Counting(2.0))), out=tmp_path)
    # By a process that was killed.
    (folder / ".lock").touch()
    ledger.run(topic(statement("one", Counting(2.0))), out=tmp_path)
    assert not (folder / ".lock").exists()


@pytest.mark.slow
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
    kept = ledger.read(topic(moved, three), Budget.QUICK, tmp_path)
    assert states(kept) == {"one": State.CONTRADICTED, "three": State.CONFIRMED}
    assert kept.results[1] == before.results[2]
    ledger.run(topic(moved, two, three), out=tmp_path)
    assert (first.count, second.count, third.count) == (2, 2, 1)


def test_each_budget_has_a_result_of_its_own(tmp_path: Path) -> None:
    counting = Counting(2.0)
    one = topic(statement("one", counting))
    found = {budget: ledger.run(one, budget, out=tmp_path, num_seeds=num) for num, budget in enumerate(Budget, 2)}
    assert counting.count == 3
    for budget, result in found.items():
        assert ledger.read(one, budget, tmp_path) == result
        assert file_of(tmp_path, budget).with_name("lines.svg").exists()


def test_other_seeds_do_not_overwrite_a_result(tmp_path: Path) -> None:
    one = topic(statement("one", Counting(2.0)))
    before = ledger.run(one, out=tmp_path)
    with pytest.raises(UserError, match=r"of a run with 3 seeds, which would be overwritten.*`num_seeds` 3"):
        ledger.run(one, out=tmp_path, num_seeds=5)
    assert ledger.read(one, Budget.QUICK, tmp_path) == before


def test_better_words_cost_nothing(tmp_path: Path) -> None:
    counting = Counting(2.0)
    one = topic(statement("one", counting))
    ledger.run(one, out=tmp_path)
    reworded = replace(one, title="other", statements=(replace(one.statements[0], text="o", statistic="r", paper="5"),))
    assert states(ledger.run(reworded, out=tmp_path)) == {"one": State.CONFIRMED}
    assert counting.count == 1


def test_what_asked_something_else_is_told(tmp_path: Path) -> None:
    one, two = statement("one", Counting(2.0)), statement("two", Counting(2.0))
    ledger.run(topic(one, two), out=tmp_path)
    moved = topic(one, replace(two, max_training_error=5.0))
    kept = ledger.read(moved, Budget.QUICK, tmp_path)
    assert (states(kept), kept.outdated) == ({"one": State.CONFIRMED}, {"two"})
    assert "was measured when it asked something else" in kept.missing["two"]
    assert ledger.run(moved, out=tmp_path).outdated == set()


def test_statements_of_all_topics_come_by_their_priority(tmp_path: Path) -> None:
    calls: list[str] = []
    watch = Watch(
        on_statement_begin=lambda topic, statement: calls.append(f"{topic.id}/{statement.id} begins"),
        on_statement_end=lambda result, statement: calls.append(f"{result.states[statement.id]}"),
    )
    first = topic(statement("a", Counting(2.0), priority=3), statement("b", Counting(0.0)), name="first")
    second = topic(
        statement("c", Counting(2.0), priority=2), statement("d", Counting(2.0), needs=Budget.FULL), name="second"
    )
    results = ledger.run_all([first, second], Budget.STANDARD, out=tmp_path, watch=watch)
    assert calls == [
        "first/b begins", "contradicted", "second/c begins", "confirmed", "first/a begins", "confirmed",
    ]  # fmt: skip
    assert [list(states(result)) for result in results] == [["a", "b"], ["c"]]
    assert results[1].missing == {"d": "needs full"}


def test_no_seed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`num_seeds` 0 measures nothing; it must be at least 1"):
        ledger.run(topic(statement("one", Counting(1.0))), out=tmp_path, num_seeds=0)


# --- images that are not here ------------------------------------------------------------------------------------


def test_a_statement_without_its_images_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(name: str) -> None:
        asked.append(name)
        if name == "usps":
            raise UserError("its address does not answer; put it there yourself")

    monkeypatch.setattr(data, "fetch", fetch)
    counting = Counting(2.0)
    several = topic(
        statement("one", counting, arms=trained_on("usps")),
        statement("two", counting, arms=trained_on("usps")),
        statement("three", counting, arms=trained_on("digits")),
    )
    result = ledger.run(several, Budget.STANDARD, out=tmp_path)
    why = "usps is not here: its address does not answer; put it there yourself"
    assert result.missing == result.absent == {"one": why, "two": why}
    assert result.states["one"] is State.NOT_RUN
    assert states(result) == {"three": State.CONFIRMED}
    # It is tried once, and again by the next run, which finds it.
    assert asked == ["usps", "digits"]
    monkeypatch.setattr(data, "fetch", lambda name: None)
    assert ledger.run(several, Budget.STANDARD, out=tmp_path).missing == {}
    assert counting.count == 3


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is damaged or was not written by convatlas.*move it away.*run some --budget quick measures"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        ('{"format": 99}', "written by a newer convatlas"),
        ('{"format": 3, "id": "some", "statements": []}', "written by an earlier convatlas.*move it away"),
        ('{"format": 4, "id": "other", "statements": [], "budget": "quick"}', "the result of other with"),
        ('{"format": 4, "id": "some", "statements": [], "budget": "full"}', "with the budget full, not of some with"),
        ('{"format": 4, "id": "some", "statements": [{"id": "one"}], "budget": "quick", "num_seeds": 3}', "is damaged"),
        ('{"format": 4, "id": "some", "statements": [], "budget": "quick", "num_seeds": -1}', "is damaged"),
        ('{"format": 4, "id": "some", "statements": [{"id": 1}], "budget": "quick"}', "is damaged"),
    ],
)
def test_a_damaged_result_is_one_line(content: str, words: str, tmp_path: Path) -> None:
    path = file_of(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        ledger.run(topic(statement("one", Counting(1.0))), out=tmp_path)
    assert path.read_text() == content


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_half_a_result_is_one_line(part: float, tmp_path: Path) -> None:
    one = topic(statement("one", Counting(2.0)))
    ledger.run(one, out=tmp_path)
    content = file_of(tmp_path).read_bytes()
    file_of(tmp_path).write_bytes(content[: int(part * len(content))])
    with pytest.raises(UserError, match="is damaged or was not written by convatlas"):
        ledger.run(one, out=tmp_path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("verdict", "contradicted"),
        ("verdict", None),
        ("estimate", None),
        ("center", 0.5),
        ("center", "2"),
        ("basis", "guess"),
        ("answers", {}),
    ],
)
def test_a_verdict_must_be_that_of_its_figures(place: str, value: object, tmp_path: Path) -> None:
    one = topic(statement("one", Counting(2.0)))
    ledger.run(one, out=tmp_path)
    path = file_of(tmp_path)
    written = json.loads(path.read_text())
    # Whoever forges a file leaves its checksum out.
    del written[SHA256]
    (found,) = written["statements"]
    (found["estimate"] if place in found["estimate"] else found)[place] = value
    path.write_text(json.dumps(written))
    with pytest.raises(UserError, match="is damaged or was not written by convatlas"):
        ledger.read(one, Budget.QUICK, tmp_path)


def test_where_there_is_no_result_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="convatlas experiment run some --budget standard makes one"):
        ledger.read(topic(statement("one", Counting(1.0))), Budget.STANDARD, tmp_path)
