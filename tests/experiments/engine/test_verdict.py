"""From values to a verdict: thresholds and the spread of seeds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.experiments.engine.verdict import Measurement, Threshold, Verdict, at_least, at_most, exactly

YES, NO, OPEN = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.NOT_TESTABLE


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


@pytest.mark.at_once(
    ("values", "verdict"),
    [
        ((1.0,), YES),
        ((-1.0,), NO),
        # Nothing is random: a value on the threshold is inside it.
        ((0.0,), YES),
        ((2.0, 2.1, 1.9), YES),
        ((-2.0, -2.1, -1.9), NO),
        # The mean is 0.5, two standard errors are 3.5.
        ((0.5, -2.5, 3.5), OPEN),
        ((-0.5, 2.5, -3.5), OPEN),
        ((1.0, 1.0, 1.0), YES),
    ],
)
def test_a_verdict_takes_a_mean_that_is_clear_of_the_threshold(values: tuple[float, ...], verdict: Verdict) -> None:
    found, reason = Measurement(values=values).verdict(at_least(0))
    assert found is verdict
    assert ("measurements are not enough" in reason) == (verdict is OPEN)


def test_nan_is_not_reproduced() -> None:
    assert Measurement(values=(math.nan,)).verdict(at_least(0)) == (NO, "")


def test_an_inconclusive_measurement_has_no_verdict() -> None:
    assert Measurement(values=(1.0,), inconclusive="why").verdict(at_least(0)) == (OPEN, "why")


@given(values=st.lists(st.floats(-10, 10), min_size=1, max_size=6), low=st.floats(-10, 10))
def test_the_opposite_threshold_gives_the_opposite_verdict(values: list[float], low: float) -> None:
    opposite = {YES: NO, NO: YES, OPEN: OPEN}
    measurement = Measurement(values=tuple(values))
    margin = 2 * (measurement.std or 0) / math.sqrt(len(values))
    edges = {measurement.mean - margin, measurement.mean, measurement.mean + margin}
    if low in edges:
        return
    above, _ = measurement.verdict(at_least(low))
    below, _ = measurement.verdict(at_most(low))
    assert below is opposite[above]


def test_a_single_value_has_no_standard_deviation() -> None:
    assert Measurement(values=(1.0,)).std is None
    assert Measurement(values=(1.0, 3.0)).std == pytest.approx(math.sqrt(2))
