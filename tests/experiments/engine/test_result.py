"""Statements measured, and the verdict of a topic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.result import StatementResult, TopicResult, current_conditions, run_statement
from convatlas.experiments.engine.statement import NotTestable, Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, Verdict, at_least

YES, NO, OPEN = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.NOT_TESTABLE


def setting(budget: Budget = Budget.QUICK) -> Setting:
    return Setting(budget=budget, seeds=(0,), folder=Path())


def statement(measure: Callable[[Setting], Measurement], only_full: str = "") -> Statement:
    return Statement(id="p", text="t", statistic="s", threshold=at_least(0), measure=measure, only_full=only_full)


def test_a_statement_for_the_full_budget_is_not_measured_at_quick() -> None:
    def measure(setting: Setting) -> Measurement:
        return Measurement(values=(1.0,))

    only_full = statement(measure, only_full="needs USPS")
    quick = run_statement(only_full, setting())
    assert (quick.verdict, quick.reason, quick.measurement) == (OPEN, "needs USPS", None)
    assert run_statement(only_full, setting(Budget.FULL)).verdict is YES


def test_a_measurement_may_give_up_with_a_reason() -> None:
    def measure(setting: Setting) -> Measurement:
        raise NotTestable("there is only one core")

    result = run_statement(statement(measure), setting())
    assert (result.verdict, result.reason, result.measurement) == (OPEN, "there is only one core", None)


def test_an_inconclusive_measurement_keeps_its_values() -> None:
    def measure(setting: Setting) -> Measurement:
        return Measurement(values=(1.0,), inconclusive="one has hardly learned")

    result = run_statement(statement(measure), setting())
    assert (result.verdict, result.reason) == (OPEN, "one has hardly learned")
    assert result.measurement is not None
    assert result.measurement.values == (1.0,)


def test_a_bug_in_a_measurement_is_no_verdict() -> None:
    def measure(setting: Setting) -> Measurement:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_statement(statement(measure), setting())


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [((YES, YES), YES), ((YES, NO), NO), ((YES, OPEN), YES), ((OPEN, NO, YES), NO), ((OPEN, OPEN), OPEN)],
)
def test_a_topic_has_the_worst_verdict_among_its_tested_statements(
    verdicts: tuple[Verdict, ...], verdict: Verdict
) -> None:
    one = statement(lambda setting: Measurement(values=(1.0,)))
    here = current_conditions()
    results = tuple(
        StatementResult(statement=one, verdict=each, reason="", measurement=None, seconds=1.5, conditions=here)
        for each in verdicts
    )
    topic = Topic(
        id="e", title="t", summary="c", source="s", method="d", limitations="l", minutes=(1, 1), statements=(one,)
    )
    result = TopicResult(topic=topic, budget=Budget.QUICK, num_seeds=1, statements=results)
    assert result.verdict is verdict
    assert result.coverage == f"{len(verdicts) - verdicts.count(OPEN)} of {len(verdicts)} statements tested"
    assert result.headline == f"{verdict} ({result.coverage})"
    assert result.seconds == 1.5 * len(verdicts)
