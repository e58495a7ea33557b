"""From estimates to states: thresholds, directions, several tests."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.experiments.engine.estimate import Estimate, counted, repeated, timed
from convatlas.experiments.engine.verdict import (
    MAX_P,
    State,
    Threshold,
    TopicState,
    at_least,
    at_most,
    exactly,
    holm,
    levels,
    state_of,
)

YES, SMALLER, OPEN, NO, INVALID, NOT_RUN = State


@pytest.mark.at_once(
    ("threshold", "inside", "outside", "text"),
    [
        (at_least(2), (2, 3, math.inf), (1.999, -math.inf), "at least 2"),
        (at_most(0.5), (0.5, -1), (0.501, math.nan), "at most 0.5"),
        (exactly(60_000), (60_000,), (59_999, 60_001), "exactly 60,000"),
        (Threshold(0.9, 1.1), (0.9, 1, 1.1), (0.89, 1.11), "0.9 to 1.1"),
    ],
)
def test_a_threshold_contains_its_interval_and_prints_it(
    threshold: Threshold, inside: tuple[float, ...], outside: tuple[float, ...], text: str
) -> None:
    assert all(value in threshold for value in inside)
    assert not any(value in threshold for value in outside)
    assert str(threshold) == text


def state(estimate: Estimate, threshold: Threshold, no_effect: float | None = None) -> State:
    return state_of(estimate, threshold, no_effect=no_effect, p_value=threshold.p_value(estimate))


@pytest.mark.at_once(
    ("estimate", "threshold", "found"),
    [
        (counted(29), exactly(29), YES),
        (counted(30), exactly(29), NO),
        (counted(0.0), at_least(0.0), YES),
        (timed((2.1, 2.4, 2.2)), at_least(2.0), YES),
        # One process of three was below.
        (timed((1.9, 2.4, 2.2)), at_least(2.0), OPEN),
        (timed((1.9, 1.8, 1.7)), at_least(2.0), NO),
    ],
)
def test_figures_without_seeds_are_held_against_the_threshold(
    estimate: Estimate, threshold: Threshold, found: State
) -> None:
    assert state(estimate, threshold) is found


def around(center: float, margin: float) -> Estimate:
    """An estimate whose 95 % interval reaches so far to either side."""
    # Three values one apart have 4.3027 / sqrt(3) = 2.4841 to either side.
    return repeated([center + step * margin / 2.48414 for step in (-1, 0, 1)])


@pytest.mark.at_once(
    ("center", "margin", "found"),
    [
        (5.0, 1.0, YES),
        (3.5, 1.0, OPEN),
        # Wholly between no effect and the threshold.
        (1.5, 1.0, SMALLER),
        (0.5, 1.0, OPEN),
        (1.5, 5.0, OPEN),
        (-2.0, 1.0, NO),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_interval_decides_between_no_effect_and_the_threshold(
    center: float, margin: float, found: State, sign: int
) -> None:
    threshold = at_least(3.0) if sign > 0 else at_most(-3.0)
    assert state(around(sign * center, margin), threshold, no_effect=0.0) is found


def test_without_another_figure_for_no_effect_the_threshold_is_the_border() -> None:
    # A loss of at most 3 points: above 3 is wrong, wherever it is.
    assert state(around(1.0, 0.5), at_most(3.0)) is YES
    assert state(around(4.0, 0.5), at_most(3.0)) is NO
    assert state(around(3.2, 0.5), at_most(3.0)) is OPEN
    assert state(around(5.0, 0.5), Threshold(4.0, 6.5)) is YES
    assert state(around(3.0, 0.5), Threshold(4.0, 6.5)) is NO


def test_many_tests_ask_for_more() -> None:
    estimate = around(3.0, 2.9)
    threshold = at_least(0.0)
    assert state(estimate, threshold) is YES
    adjusted = holm({"it": threshold.p_value(estimate), "another": 0.5})
    assert state_of(estimate, threshold, no_effect=None, p_value=adjusted["it"]) is OPEN


def test_holm_is_that_of_his_example() -> None:
    # Holm 1979: the smallest times their number, the next times one less, never decreasing.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({}) == {}


def test_the_first_of_four_tests_needs_a_quarter_of_the_p_value() -> None:
    assert levels({"a": 0.5, "b": 0.001, "c": 0.2, "d": 0.9}) == {
        "b": MAX_P / 4, "c": MAX_P / 3, "a": MAX_P / 2, "d": MAX_P,
    }  # fmt: skip


def estimate_of(center: float, standard_error: float, df: float) -> Estimate:
    return replace(repeated((center, center)), standard_error=standard_error, df=df)


def test_of_several_comparisons_the_least_certain_decides() -> None:
    sure, unsure = estimate_of(1.0, 0.1, 100), estimate_of(5.0, 1.2, 3)
    assert sure.low < unsure.low
    # Though its interval begins higher up.
    assert at_least(0).deciding({"sure": sure, "unsure": unsure}) == "unsure"


def test_of_several_comparisons_one_that_is_missed_decides() -> None:
    wide, wrong = estimate_of(-1.0, 1.0, 100), estimate_of(-0.5, 0.2, 100)
    assert wide.low < wrong.low
    assert at_least(0).deciding({"wide": wide, "wrong": wrong}) == "wrong"
    assert at_most(0).deciding({"wide": wide, "wrong": wrong}) == "wide"


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=8), other=st.floats(0, 1))
def test_what_is_confirmed_stays_confirmed_when_more_is_measured(values: list[float], other: float) -> None:
    """What was not measured counts with a p-value of 1, so that a measured one can only lower the others'."""
    before = holm({str(i): value for i, value in enumerate(values)} | {"later": 1.0})
    after = holm({str(i): value for i, value in enumerate(values)} | {"later": other})
    for i, value in enumerate(values):
        assert after[str(i)] <= before[str(i)] + 1e-12
        assert value <= after[str(i)] <= 1
    assert 0 < MAX_P < 0.05


@pytest.mark.at_once(
    ("states", "topic"),
    [
        ([YES, YES], TopicState.SUPPORTED),
        ([YES, OPEN, NOT_RUN], TopicState.PARTLY_SUPPORTED),
        ([YES, SMALLER], TopicState.PARTLY_SUPPORTED),
        ([YES, NO], TopicState.DISPUTED),
        ([OPEN, NO], TopicState.DISPUTED),
        ([OPEN, INVALID, SMALLER], TopicState.UNDECIDED),
        ([], TopicState.UNDECIDED),
    ],
)
def test_a_topic_rests_on_its_central_statements(states: list[State], topic: TopicState) -> None:
    assert TopicState.of(states) is topic
