"""Recipes as data: the course of the learning rate, and how long a recipe trains."""

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.errors import UserError
from convatlas.recipe import Augmentation, Cosine, LinearDecay, Optimizer, Recipe, Staircase, Steps

RECIPE = Recipe(
    name="some",
    optimizer=Optimizer.ADAMW,
    lr=0.04,
    schedule=LinearDecay(),
    batch_size=32,
    epochs=20,
    epochs_of=64000,
)

fractions = st.floats(0.0, 0.9)
rates = st.floats(1e-6, 10.0)
steps = st.lists(st.tuples(st.integers(1, 40), rates), min_size=1, max_size=6).map(lambda pairs: Steps(tuple(pairs)))
staircases = st.builds(
    Staircase, factor=st.floats(0.05, 1.0), every=st.floats(0.5, 20.0), of=st.floats(10.0, 100.0), warmup=st.just(0.0)
)
climbing = st.builds(
    Staircase, factor=st.floats(0.05, 1.0), every=st.floats(0.5, 20.0), of=st.just(100.0), warmup=st.floats(1.0, 50.0)
)
schedules = st.one_of(st.builds(Cosine, warmup=fractions), st.just(LinearDecay()), steps, staircases, climbing)


def course(schedule: Cosine | LinearDecay | Steps | Staircase, num_steps: int, peak: float = 1.0) -> list[float]:
    return [schedule.lr_at(peak, step, num_steps) for step in range(num_steps)]


@given(schedule=schedules, num_steps=st.integers(1, 300), peak=rates)
def test_no_rate_is_above_the_peak_and_all_are_in_proportion_to_it(
    schedule: Cosine | LinearDecay | Steps | Staircase, num_steps: int, peak: float
) -> None:
    of_one = course(schedule, num_steps)
    assert all(0 <= rate <= 1 for rate in of_one)
    assert course(schedule, num_steps, peak) == pytest.approx([peak * rate for rate in of_one])


@given(schedule=steps, times=st.integers(1, 7))
def test_each_step_lasts_as_long_as_it_says(schedule: Steps, times: int) -> None:
    highest = max(rate for _, rate in schedule.rates)
    total = sum(length for length, _ in schedule.rates)
    expected = [rate for length, rate in schedule.rates for _ in range(length * times)]
    # The peak that the paper prints gives the very rates that it prints.
    assert course(schedule, total * times, highest) == expected


@given(schedule=steps, num_steps=st.integers(1, 500))
def test_in_a_training_of_another_length_each_step_lasts_the_same_part(schedule: Steps, num_steps: int) -> None:
    total, end = sum(length for length, _ in schedule.rates), 0
    highest = max(rate for _, rate in schedule.rates)
    found = course(schedule, num_steps, highest)
    for length, rate in schedule.rates:
        first, end = math.ceil(end / total * num_steps - 1e-9), end + length
        assert set(found[first : math.ceil(end / total * num_steps - 1e-9)]) <= {rate}


def test_steps_may_begin_lower_than_they_go() -> None:
    schedule = Steps(((1, 0.01), (3, 0.1), (4, 0.001)))
    assert course(schedule, 8, peak=0.1) == [0.01, 0.1, 0.1, 0.1, 0.001, 0.001, 0.001, 0.001]
    assert course(schedule, 8, peak=0.2) == [0.02, 0.2, 0.2, 0.2, 0.002, 0.002, 0.002, 0.002]


@given(schedule=staircases, num_steps=st.integers(1, 300))
def test_a_staircase_falls_by_its_factor_and_never_rises(schedule: Staircase, num_steps: int) -> None:
    found = course(schedule, num_steps)
    assert found == sorted(found, reverse=True)
    stairs = [math.floor(step * schedule.of / (num_steps * schedule.every) + 1e-9) for step in range(num_steps)]
    assert found == pytest.approx([schedule.factor**stair for stair in stairs])


@given(every=st.integers(1, 40), stairs=st.integers(1, 20), per_epoch=st.integers(1, 9))
def test_a_stair_begins_with_the_very_step_of_its_epoch(every: int, stairs: int, per_epoch: int) -> None:
    # In tenths of an epoch, which binary fractions do not hold.
    schedule = Staircase(factor=0.5, every=every / 10, of=every * stairs / 10)
    expected = [0.5**stair for stair in range(stairs) for _ in range(every * per_epoch)]
    assert course(schedule, every * stairs * per_epoch) == expected


@given(schedule=climbing, num_steps=st.integers(1, 300))
def test_a_climb_rises_evenly_from_the_first_step_on_and_the_stairs_go_on_as_without_it(
    schedule: Staircase, num_steps: int
) -> None:
    found = course(schedule, num_steps)
    length = next((i for i in range(num_steps) if i / num_steps * schedule.of >= schedule.warmup), num_steps)
    for step in range(length):
        assert found[step] == pytest.approx((step + 1) / (num_steps * schedule.warmup / schedule.of + 1))
    without = Staircase(factor=schedule.factor, every=schedule.every, of=schedule.of)
    assert found[length:] == course(without, num_steps)[length:]


@given(num_steps=st.integers(1, 500))
def test_a_line_falls_evenly_to_nothing_after_the_last_step(num_steps: int) -> None:
    assert course(LinearDecay(), num_steps) == pytest.approx([left / num_steps for left in range(num_steps, 0, -1)])


@given(warmup=fractions, num_steps=st.integers(1, 500))
def test_a_cosine_climbs_and_then_falls(warmup: float, num_steps: int) -> None:
    found = course(Cosine(warmup=warmup), num_steps)
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert peak <= warmup * num_steps + 1
    assert all(rate > 0 for rate in found)


def test_a_cosine_is_half_way_down_in_the_middle_of_its_fall() -> None:
    assert Cosine().lr_at(0.2, 50, 100) == pytest.approx(0.1)
    assert Cosine(warmup=0.5).lr_at(0.2, 75, 100) == pytest.approx(0.1)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RECIPE.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(("num_images", "epochs"), [(64000, 20), (8000, 40), (1000, 80), (64, 200), (1_000_000, 20)])
def test_smaller_sets_get_more_passes_with_the_cube_root(num_images: int, epochs: int) -> None:
    assert RECIPE.epochs_for(num_images) == epochs


def test_a_broken_number_of_passes_is_rounded_up() -> None:
    # 20 times the cube root of 64,000 / 63,999.
    assert RECIPE.epochs_for(63999) == 21


def test_a_recipe_without_a_measure_keeps_its_epochs() -> None:
    recipe = replace(RECIPE, epochs_of=None)
    assert recipe.epochs_for(1) == recipe.epochs_for(10**9) == 20


@given(st.integers(1, 200_000), st.integers(1, 200_000))
def test_fewer_images_never_get_fewer_passes_nor_more_steps(one: int, other: int) -> None:
    fewer, more = sorted((one, other))
    assert RECIPE.epochs_for(fewer) >= RECIPE.epochs_for(more)
    # Up to one pass that rounding up adds.
    assert fewer * (RECIPE.epochs_for(fewer) - 1) <= more * RECIPE.epochs_for(more)


def test_a_recipe_goes_by_its_schedule_from_its_rate() -> None:
    assert [RECIPE.lr_at(step, 4) for step in range(4)] == pytest.approx([0.04, 0.03, 0.02, 0.01])


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Steps(((400, 0.01), (63_600, 0.1))), "0.01 for 1 epochs, 0.1 for 159 epochs"),
        (Staircase(factor=0.9, every=1.2, of=80, warmup=5), "times 0.9 every 2.4 epochs, after a warmup of 10 epochs"),
        (Staircase(factor=0.1, every=40, of=160), "times 0.1 every 40 epochs"),
        (LinearDecay(), "linear to 0"),
        (Cosine(), "cosine to 0"),
        (Cosine(warmup=0.1), "warmup of 16 epochs, then cosine to 0"),
    ],
)
def test_a_schedule_says_itself_in_epochs(schedule: Cosine | LinearDecay | Steps | Staircase, words: str) -> None:
    assert schedule.describe(160) == words


@pytest.mark.parametrize(
    "make",
    [
        lambda: replace(RECIPE, epochs=0),
        lambda: replace(RECIPE, epochs=100_001),
        lambda: replace(RECIPE, batch_size=10**12),
        lambda: replace(RECIPE, lr=math.nan),
        lambda: replace(RECIPE, lr=-1.0),
        lambda: replace(RECIPE, label_smoothing=1.5),
        lambda: Augmentation(side=0.0),
        lambda: Augmentation(rotation=math.inf),
        lambda: Cosine(warmup=2.0),
        lambda: Steps(()),
        lambda: Steps(((0, 0.1),)),
        lambda: Steps(((1, 0.0),)),
        lambda: Steps(((1, math.nan),)),
        lambda: Staircase(factor=1e300, every=1, of=2),
        lambda: Staircase(factor=0.5, every=0, of=2),
    ],
)
def test_numbers_with_which_nothing_can_be_trained_are_one_line(make: Callable[[], object]) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1
