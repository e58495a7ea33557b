"""Intervals: known values, and how often they cover the truth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.experiments.engine.estimate import (
    Basis,
    Estimate,
    combined,
    combined_errors,
    counted,
    ratio,
    repeated,
    timed,
)
from convatlas.experiments.engine.verdict import State, Threshold, at_least, at_most, state_of

NUM_CASES = 600
RECORDED = Path(__file__).with_name("recorded.npz")
"""Predictions of one network, trained with many seeds; see `record.py` beside it."""


def test_a_count_has_no_ends() -> None:
    estimate = counted(60_000)
    assert (estimate.low, estimate.center, estimate.high) == (60_000,) * 3


def test_timings_have_a_median_and_a_range() -> None:
    estimate = timed((4.5, 3.5, 4.0))
    assert (estimate.low, estimate.center, estimate.high) == (3.5, 4.0, 4.5)


def test_seeds_have_a_t_interval() -> None:
    estimate = repeated((1.0, 2.0, 3.0))
    # 4.3027 standard errors of 1 / sqrt(3).
    assert estimate.df == 2
    assert (estimate.low, estimate.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)


def test_a_difference_has_the_degrees_of_freedom_of_both() -> None:
    # Welch 1947: equal variances of three values each have 4, one without variance leaves the other's 2.
    assert combined((1.0, (1.0, 2.0, 3.0)), (-1.0, (5.0, 7.0, 6.0))).df == pytest.approx(4)
    assert combined((1.0, (1.0, 2.0, 3.0)), (-1.0, (5.0, 5.0, 5.0))).df == pytest.approx(2)
    estimate = combined((1.0, (1.0, 2.0, 3.0)), (-1.0, (5.0, 7.0, 6.0)))
    assert estimate.center == pytest.approx(-4)
    assert estimate.values == (-4.0, -5.0, -3.0)
    assert estimate.standard_error == pytest.approx(math.sqrt(1 / 3 + 1 / 3))


def test_one_seed_has_no_interval() -> None:
    estimate = repeated((1.0,))
    assert (estimate.low, estimate.high, estimate.detectable(0.025)) == (-math.inf, math.inf, math.inf)
    assert (
        state_of(estimate, at_least(-99), no_effect=None, p_value=at_least(-99).p_value(estimate)) is State.INCONCLUSIVE
    )


def test_seeds_without_spread_are_certain() -> None:
    estimate = repeated((1.0, 1.0, 1.0))
    assert (estimate.low, estimate.high) == (1.0, 1.0)
    assert (estimate.p_above(0.5), estimate.p_above(1.5)) == (0.0, 1.0)


def test_a_ratio_is_tested_by_its_logarithm() -> None:
    estimate = ratio((8.0, 8.0, 8.0), (2.0, 4.0, 4.0))
    assert estimate.center == pytest.approx(8 / 2 ** (5 / 3))
    assert estimate.low * estimate.high == pytest.approx(estimate.center**2)
    assert estimate.low > 0
    assert at_least(1.0).p_value(estimate) < 0.05 < at_least(2.5).p_value(estimate)


@given(
    values=st.lists(st.floats(-10, 10), min_size=2, max_size=6),
    edge=st.floats(-20, 20),
)
def test_the_interval_excludes_what_the_test_excludes(values: list[float], edge: float) -> None:
    estimate = repeated(values)
    if estimate.standard_error < 1e-6 or min(abs(edge - estimate.low), abs(edge - estimate.high)) < 1e-6:
        return
    assert (at_least(edge).p_value(estimate) <= 0.025) == (estimate.low >= edge)
    assert (at_most(edge).p_value(estimate) <= 0.025) == (estimate.high <= edge)


def test_images_alone_give_the_binomial_error() -> None:
    # Three seeds that agree on every image: only the sample of images is left.
    errors = np.zeros((3, 10_000), np.bool_)
    errors[:, :1_000] = True
    estimate = combined_errors((1.0, errors))
    assert estimate.center == pytest.approx(10.0)
    assert estimate.standard_error == pytest.approx(100 * math.sqrt(0.1 * 0.9 / 9_999), rel=1e-3)
    assert estimate.df == pytest.approx(9_999)
    assert estimate.num_images == 10_000


def test_networks_that_err_on_the_same_images_differ_by_their_seeds_alone() -> None:
    errors = np.random.default_rng(0).random((3, 2_000)) < 0.2
    estimate = combined_errors((1.0, errors), (-1.0, errors))
    of_seeds = [100 * errors[seed].mean() for seed in range(3)]
    assert estimate.standard_error == pytest.approx(math.sqrt(2 * statistics.variance(of_seeds) / 3))


def test_several_predictions_of_an_image_count_as_one_image() -> None:
    errors = np.zeros((3, 400))
    errors[:, ::2] = 0.5
    assert combined_errors((1.0, errors)).num_images == 400


# --- simulated: two kinds of chance ------------------------------------------------------------------------------


def simulated(rng: np.random.Generator, difficulty: npt.NDArray[np.float64], spread: float) -> npt.NDArray[np.bool_]:
    """A network's errors with three seeds, of different luck, on images of different difficulty."""
    luck = rng.normal(0.0, spread, (3, 1))
    return rng.random((3, len(difficulty))) < 1 / (1 + np.exp(-(difficulty + luck)))


@pytest.mark.parametrize(
    ("spread", "own"),
    [(0.1, 0.7), *(pytest.param(*case, marks=pytest.mark.slow) for case in product((0.0, 0.1, 0.5), (0.0, 0.7)))],
)
def test_the_interval_covers_the_truth_in_95_of_100_cases(spread: float, own: float) -> None:
    """Whatever part of the chance the seeds have, and whether the networks find the same images difficult or not."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(NUM_CASES):
        difficulty = rng.normal(-1.5, 1.0, 1_000)
        first, second = (simulated(rng, difficulty + own * rng.normal(size=1_000), spread) for _ in range(2))
        estimate = combined_errors((1.0, first), (-1.0, second))
        covered += estimate.low <= 0 <= estimate.high
    assert 0.93 <= covered / NUM_CASES <= 0.985


# --- recorded: an A/A test ---------------------------------------------------------------------------------------


def recorded() -> tuple[npt.NDArray[np.bool_], int]:
    """(seeds, images): which test images each training of one and the same network got wrong."""
    with np.load(RECORDED) as file:
        return np.unpackbits(file["errors"], axis=1, count=int(file["num_images"])).astype(bool), int(
            file["num_images"]
        )


def drawn(rng: np.random.Generator, num: int) -> npt.NDArray[np.bool_]:
    """(num, images): trainings of the network, on images drawn again."""
    errors, num_images = recorded()
    return errors[rng.permutation(len(errors))[:num]][:, rng.integers(num_images, size=num_images)]


def coverage(estimates: Sequence[Estimate], truth: float) -> float:
    return sum(estimate.low <= truth <= estimate.high for estimate in estimates) / len(estimates)


def test_the_interval_of_one_network_covers_its_error() -> None:
    rng, errors = np.random.default_rng(3), recorded()[0]
    cases = [combined_errors((1.0, drawn(rng, 3))) for _ in range(NUM_CASES)]
    assert 0.93 <= coverage(cases, 100 * errors.mean()) <= 0.97


def test_the_interval_of_a_rise_covers_it() -> None:
    """Of the same trainings' errors once something is taken out of them: images that it makes wrong or right."""
    rng = np.random.default_rng(4)
    cases = []
    for _ in range(NUM_CASES):
        luck = rng.normal(0.0, 0.01, (3, 1))
        chances = rng.random((3, 2_000))
        cases.append(combined_errors((1.0, (chances < 0.1 + luck).astype(float) - (chances > 0.97))))
    assert 0.93 <= coverage(cases, 100 * (0.1 - 0.03)) <= 0.97


def test_a_network_against_itself_is_confirmed_in_at_most_1_of_20_cases() -> None:
    rng = np.random.default_rng(2)
    cases = []
    for _ in range(NUM_CASES):
        errors = drawn(rng, 6)
        cases.append(combined_errors((1.0, errors[:3]), (-1.0, errors[3:])))
    assert 0.93 <= coverage(cases, 0.0) <= 0.97
    for threshold in (at_least(0.0), at_most(0.0)):
        states = [
            state_of(estimate, threshold, no_effect=None, p_value=threshold.p_value(estimate)) for estimate in cases
        ]
        assert states.count(State.CONFIRMED) <= len(cases) / 20
        assert states.count(State.CONTRADICTED) <= len(cases) / 20


def test_a_two_sided_threshold_is_met_inside_alone() -> None:
    estimate = repeated((5.0, 5.1, 4.9))
    assert Threshold(4.0, 6.5).p_value(estimate) < 0.025
    assert Threshold(4.0, 5.05).p_value(estimate) > 0.025
    assert estimate.basis is Basis.SEEDS
