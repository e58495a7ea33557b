"""From a measurement to a verdict: thresholds, the spread of seeds, and the worst part."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.experiments.engine import experiment
from convatlas.experiments.engine.experiment import (
    Budget,
    Experiment,
    Measured,
    NotTestable,
    Part,
    PartResult,
    Result,
    Setting,
    Threshold,
    Verdict,
    at_least,
    at_most,
    carry_out,
    conditions,
    doubted,
    errors_of,
    exactly,
    training_accuracy,
    training_evaluation,
    unlearned,
)
from convatlas.training import Request

POSITIVE = at_least(0)
YES, NO, OPEN = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.NOT_TESTABLE


def setting(budget: Budget = Budget.QUICK, folder: Path = Path()) -> Setting:
    return Setting(budget=budget, seeds=(0,), folder=folder)


def part(measure: Callable[[Setting], Measured], threshold: Threshold = POSITIVE, only_full: str = "") -> Part:
    return Part(id="p", claim="c", statistic="s", threshold=threshold, measure=measure, only_full=only_full)


@pytest.mark.parametrize(
    ("threshold", "inside", "outside", "words"),
    [
        (at_least(2), (2, 3, math.inf), (1.999, -math.inf), "at least 2"),
        (at_most(0.5), (0.5, -1), (0.501, math.nan), "at most 0.5"),
        (exactly(60_000), (60_000,), (59_999, 60_001), "exactly 60,000"),
        (Threshold(0.9, 1.1), (0.9, 1, 1.1), (0.89, 1.11), "0.9 to 1.1"),
    ],
)
def test_a_threshold_says_what_lies_in_it(
    threshold: Threshold, inside: tuple[float, ...], outside: tuple[float, ...], words: str
) -> None:
    assert all(value in threshold for value in inside)
    assert not any(value in threshold for value in outside)
    assert str(threshold) == words


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((1.0,), YES),
        ((-1.0,), NO),
        # Nothing is left to chance: on the threshold is in it.
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
    given, reason = Measured(values=values).verdict(at_least(0))
    assert given is verdict
    assert ("measurements cannot tell" in reason) == (verdict is OPEN)


def test_what_is_no_number_is_not_reproduced() -> None:
    assert Measured(values=(math.nan,)).verdict(at_least(0)) == (NO, "")


@given(values=st.lists(st.floats(-10, 10), min_size=1, max_size=6), low=st.floats(-10, 10))
def test_a_verdict_turns_with_its_threshold(values: list[float], low: float) -> None:
    turned = {YES: NO, NO: YES, OPEN: OPEN}
    measured = Measured(values=tuple(values))
    half = 2 * (measured.deviation or 0) / math.sqrt(len(values))
    edges = {measured.mean - half, measured.mean, measured.mean + half}
    if low in edges:
        return
    above, _ = measured.verdict(at_least(low))
    below, _ = measured.verdict(at_most(low))
    assert below is turned[above]


def test_the_deviation_of_one_value_is_not_known() -> None:
    assert Measured(values=(1.0,)).deviation is None
    assert Measured(values=(1.0, 3.0)).deviation == pytest.approx(math.sqrt(2))


def test_a_part_that_quick_cannot_tell_is_not_measured_there() -> None:
    def measure(setting: Setting) -> Measured:
        return Measured(values=(1.0,))

    only_full = part(measure, only_full="needs USPS")
    quick = carry_out(only_full, setting())
    assert (quick.verdict, quick.reason, quick.measured) == (OPEN, "needs USPS", None)
    assert carry_out(only_full, setting(Budget.FULL)).verdict is YES


def test_a_part_may_find_that_it_cannot_tell() -> None:
    def measure(setting: Setting) -> Measured:
        raise NotTestable("there is one core only")

    given = carry_out(part(measure), setting())
    assert (given.verdict, given.reason, given.measured) == (OPEN, "there is one core only", None)


def test_a_part_that_was_measured_in_doubt_keeps_what_it_measured() -> None:
    def measure(setting: Setting) -> Measured:
        return Measured(values=(1.0,), doubt="one has hardly learned")

    given = carry_out(part(measure), setting())
    assert (given.verdict, given.reason) == (OPEN, "one has hardly learned")
    assert given.measured is not None
    assert given.measured.values == (1.0,)


def test_networks_that_have_not_learned_are_named() -> None:
    assert doubted({"deep": 80.0, "shallow": 99.0}) == ""
    assert doubted({"deep": 79.0, "shallow": 99.0}).startswith("deep: a network that answers 79 %")


def test_each_network_is_trained_with_each_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Setting(budget=Budget.QUICK, seeds=(3, 4), folder=tmp_path)

    def asked(network: str, seed: int) -> Request:
        return Request(network=network, width=0.5, epochs=1, seed=seed, autotune=False)

    names = ("lenet5", "lenet5-modern")
    runs = here.train_each({name: partial(asked, name) for name in names})
    assert {name: [run.record.seed for run in each] for name, each in runs.items()} == {name: [3, 4] for name in names}
    assert [run.variant.name for each in runs.values() for run in each] == ["lenet5"] * 2 + ["lenet5-modern"] * 2
    found = runs["lenet5-modern"]
    assert errors_of(found) == tuple(100 * (1 - run.test_accuracy) for run in found)
    own = 100 * min(training_evaluation(run).accuracy for run in found)
    assert training_accuracy(found) == own
    # Who does well on the test has learned; who does not is asked what it learned.
    monkeypatch.setattr(experiment, "LEARNED", 0.0)
    monkeypatch.setattr(experiment, "training_accuracy", lambda runs: -1.0)
    assert unlearned(runs) == ""
    monkeypatch.setattr(experiment, "LEARNED", 101.0)
    monkeypatch.setattr(experiment, "training_accuracy", training_accuracy)
    assert f"answers {own:.0f} %" in unlearned({"these": found})


def test_a_bug_in_a_part_is_no_verdict() -> None:
    def measure(setting: Setting) -> Measured:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        carry_out(part(measure), setting())


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [((YES, YES), YES), ((YES, NO), NO), ((YES, OPEN), YES), ((OPEN, NO, YES), NO), ((OPEN, OPEN), OPEN)],
)
def test_a_claim_has_the_verdict_of_its_worst_part_that_was_tested(
    parts: tuple[Verdict, ...], verdict: Verdict
) -> None:
    asked = part(lambda setting: Measured(values=(1.0,)))
    here = conditions()
    results = tuple(
        PartResult(part=asked, verdict=one, reason="", measured=None, seconds=1.5, conditions=here) for one in parts
    )
    experiment = Experiment(
        id="e", title="t", claim="c", source="s", done="d", limits="l", minutes=(1, 1), parts=(asked,)
    )
    result = Result(experiment=experiment, budget=Budget.QUICK, num_seeds=1, parts=results)
    assert result.verdict is verdict
    assert result.tested == f"{len(parts) - parts.count(OPEN)} of {len(parts)} parts tested"
    assert result.seconds == 1.5 * len(parts)


def test_the_same_training_is_done_once(tmp_path: Path) -> None:
    told: list[str] = []
    here = replace(setting(folder=tmp_path), trained=lambda: told.append("one more"))
    request = Request(network="lenet1", epochs=1, autotune=False)
    first = here.train(request)
    written = (first.folder / "weights.safetensors").stat().st_mtime_ns
    again = here.train(Request(network="lenet1", epochs=1, autotune=False))
    assert again.folder == first.folder
    assert (again.folder / "weights.safetensors").stat().st_mtime_ns == written
    here.train_all([request])
    assert told == ["one more"]
    other = here.train(Request(network="lenet1", epochs=1, autotune=False, seed=1))
    assert other.folder != first.folder
    # The network is left where it was, whatever device answered.
    evaluation = training_evaluation(first)
    assert evaluation.num_images == 1442
    assert next(first.network.parameters()).device.type == "cpu"
