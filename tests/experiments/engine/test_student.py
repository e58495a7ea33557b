"""Student's t distribution against printed tables and closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.experiments.engine.student import cdf, quantile


@pytest.mark.at_once(
    ("p", "df", "t"),
    [
        # Student's table, two-sided 5 %, 1 % and 10 %.
        (0.975, 1, 12.7062),
        (0.975, 2, 4.3027),
        (0.975, 4, 2.7764),
        (0.975, 30, 2.0423),
        (0.995, 2, 9.9248),
        (0.95, 10, 1.8125),
        (0.975, math.inf, 1.959964),
    ],
)
def test_quantiles_are_those_of_the_table(p: float, df: float, t: float) -> None:
    assert quantile(p, df) == pytest.approx(t, abs=5e-5)


@given(t=st.floats(-50, 50))
def test_two_distributions_have_closed_forms(t: float) -> None:
    assert cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-12)
    assert cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-12)


@given(p=st.floats(0.5, 0.9999), df=st.floats(1, 1e5))
def test_a_quantile_is_the_inverse(p: float, df: float) -> None:
    t = quantile(p, df)
    assert cdf(t, df) == pytest.approx(p, abs=1e-9)
    assert cdf(-t, df) == pytest.approx(1 - p, abs=1e-9)


@given(t=st.floats(0, 6))
def test_many_degrees_of_freedom_are_normal(t: float) -> None:
    assert cdf(t, 1e7) == pytest.approx(cdf(t, math.inf), abs=1e-6)
