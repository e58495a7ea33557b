"""Durations: who is timed, how often, and in which order."""

from __future__ import annotations

import pytest

from convatlas.measure import seconds, seconds_in_turn, timing


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was called; each call of a name takes as long as the name."""
    called: list[str] = []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(sum(map(len, called))))
    return called


def test_each_is_called_in_turn_after_one_that_warms_up(calls: list[str]) -> None:
    found = seconds_in_turn({"a": lambda: calls.append("a"), "bbb": lambda: calls.append("bbb")}, repeats=2)
    assert calls == ["a", "bbb"] * 3
    assert found == {"a": (1.0, 1.0), "bbb": (3.0, 3.0)}


def test_one_alone_has_its_median(calls: list[str]) -> None:
    lengths = iter([9, 1, 100, 3])
    assert seconds(lambda: calls.append("x" * next(lengths)), repeats=3) == 3
