"""The committed results are those of this code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.experiments import QUOTED, TOPICS, Budget, StatementResult, TopicResult, run
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.estimate import Basis
from convatlas.experiments.engine.ledger import FORMAT, RESULT, read, result_folder
from convatlas.experiments.engine.report import TopicReport, markdown
from convatlas.experiments.engine.request_key import key_of
from convatlas.experiments.engine.result import arms_of
from convatlas.experiments.engine.statement import Role, Topic

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "experiments"
COMMITTED = [
    (folder, read(topic, budget, RESULTS))
    for topic in TOPICS
    for budget in Budget
    if ((folder := result_folder(RESULTS, topic, budget)) / RESULT).exists()
]
SPREAD = 0.1
"""Relative difference that another machine may make to the mean of a random statistic."""
NUM_REPEATED = 2


@pytest.mark.parametrize(
    ("folder", "result"), COMMITTED, ids=[f"{each.topic.id}-{each.budget}" for _, each in COMMITTED]
)
def test_a_committed_result_is_of_todays_statements(folder: Path, result: TopicResult) -> None:
    values = json.loads((folder / RESULT).read_text())
    assert (values["format"], values["title"]) == (FORMAT, result.topic.title)
    # Those that ask something else today are left out when they are read.
    of_today = [(one.statement.id, one.statement.text, one.statement.statistic) for one in result.results]
    assert [(one["id"], one["text"], one["statistic"]) for one in values["statements"]] == of_today
    assert result.missing.keys() == values["not_run"].keys()


@pytest.mark.at_once("topic", TOPICS)
def test_what_needs_no_training_is_measured(topic: Topic) -> None:
    shown = TopicReport.read(topic, RESULTS).result
    for statement in topic.statements:
        if statement.needs is Budget.QUICK:
            assert shown.of(statement) is not None, f"{topic.id}/{statement.id}"


def test_quick_trains_nothing_and_is_quick() -> None:
    for topic in TOPICS:
        for statement in topic.statements:
            setting = Setting(budget=Budget.QUICK, seeds=(0,), folder=Path("runs"))
            assert not arms_of(statement, setting), f"{topic.id}/{statement.id}"
    assert sum(topic.minutes_quick for topic in TOPICS) < 10


WITH_OTHER_PRECONDITIONS = {"relu", "reliable"}


@pytest.mark.at_once("topic", TOPICS)
def test_readers_are_told_the_test_bed_and_the_precondition(topic: Topic) -> None:
    for statement in topic.statements:
        name = f"{topic.id}/{statement.id}"
        assert statement.test_bed or statement.role is Role.COUNT, name
        compares = statement.is_learned and statement.id not in WITH_OTHER_PRECONDITIONS
        assert compares == (statement.max_training_error is not None), name


def test_the_page_is_that_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    out = Path("docs/experiments")
    assert out.with_suffix(".md").read_text() == markdown(
        [TopicReport.read(topic, out) for topic in TOPICS], QUOTED, out
    )
    page = out.with_suffix(".html").read_text()
    for topic in TOPICS:
        assert f'id="{topic.id}"' in page


def trainings_of(result: TopicResult, one: StatementResult) -> set[str]:
    """The networks that a statement compares, each with its first seed."""
    setting = Setting(budget=result.budget, seeds=(0,), folder=Path("runs"))
    return {key_of(arm.request(0)) for arm in arms_of(one.statement, setting).values()}


def cheapest() -> list[tuple[TopicResult, StatementResult]]:
    """The statements about trained networks that take least, with all trainings that others share with them."""
    learned = [
        (result, one, trainings_of(result, one))
        for _, result in COMMITTED
        for one in result.results
        if one.measurement.estimate.basis is Basis.SEEDS
        and result.budget is Budget.STANDARD
        and one.statement.is_learned
    ]

    def alone(trainings: set[str]) -> float:
        return sum(other.seconds for _, other, shared in learned if shared & trainings)

    ranked = sorted(learned, key=lambda each: alone(each[2]))
    return [(result, one) for result, one, _ in ranked[:NUM_REPEATED]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "one"), cheapest(), ids=[f"{result.topic.id}-{one.statement.id}" for result, one in cheapest()]
)
def test_the_cheapest_come_out_as_they_are_committed(before: TopicResult, one: StatementResult, tmp_path: Path) -> None:
    topic = replace(before.topic, statements=(one.statement,))
    again = run(topic, before.budget, num_seeds=before.num_seeds, out=tmp_path).of(one.statement)
    assert again is not None
    old, new = one.measurement, again.measurement
    assert [name for name, _ in new.figures] == [name for name, _ in old.figures]
    # Another processor rounds otherwise, and a training goes on from there.
    near = max(SPREAD * abs(old.estimate.center), 3 * old.estimate.standard_error)
    assert new.estimate.center == pytest.approx(old.estimate.center, abs=near)
