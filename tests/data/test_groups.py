"""Splits by groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from convatlas.data import Split
from convatlas.data.groups import IndivisibleError, draw_groups
from convatlas.errors import UserError


@given(
    groups=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=2, max_size=200),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 100),
)
def test_no_group_is_on_both_sides_and_every_class_is(
    groups: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    of_group, labels = (np.array(values) for values in zip(*groups, strict=True))
    whole = next((label for label in set(labels) if len(set(of_group[labels == label])) == 1), None)
    if whole is not None:
        with pytest.raises(IndivisibleError):
            draw_groups(labels, of_group, fraction, np.random.default_rng(seed))
        return
    try:
        drawn = draw_groups(labels, of_group, fraction, np.random.default_rng(seed))
    except IndivisibleError:
        # Few groups of several classes may hold each other back; with one class in each there is always a split.
        assume(False)
    assert not set(of_group[drawn]) & set(of_group[~drawn])
    assert set(labels[drawn]) == set(labels[~drawn]) == set(labels)
    assert np.array_equal(drawn, draw_groups(labels, of_group, fraction, np.random.default_rng(seed)))


def test_about_the_fraction_of_each_class_is_drawn() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 120, 2000)
    labels = (groups % 5 == 0).astype(np.int64)
    for seed in range(5):
        drawn = draw_groups(labels, groups, 0.2, np.random.default_rng(seed))
        assert [drawn[labels == label].mean() for label in (0, 1)] == pytest.approx([0.2, 0.2], abs=0.03)


def test_another_seed_draws_other_groups() -> None:
    groups = np.arange(100) // 2
    labels = groups % 2
    one, other = (draw_groups(labels, groups, 0.2, np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_a_class_of_one_group_is_named_by_an_image() -> None:
    split = Split(
        np.zeros((4, 1, 2, 2), np.uint8),
        np.array([0, 0, 1, 1]),
        ("a.png", "b.png", "c.png", "d.png"),
        groups=np.array([0, 1, 2, 2]),
    )
    with pytest.raises(UserError, match=r"the class of c\.png is in too few groups to be split by them"):
        split.stratified_split(0.2, np.random.default_rng(0))


def test_groups_go_with_their_images() -> None:
    split = Split(np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 0, 1]), groups=np.array([7, 7, 8, 8]))
    rest, drawn = split.stratified_split(0.5, np.random.default_rng(0))
    assert rest.groups is not None
    assert drawn.groups is not None
    assert sorted([*rest.groups.tolist(), *drawn.groups.tolist()]) == [7, 7, 8, 8]
    assert set(rest.groups) != set(drawn.groups)


@given(
    sizes=st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=6), min_size=1, max_size=4),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 100),
)
def test_groups_of_one_class_each_can_always_be_split(sizes: list[list[int]], fraction: float, seed: int) -> None:
    labels = np.concatenate([np.full(sum(of_class), label) for label, of_class in enumerate(sizes)])
    flat = [size for of_class in sizes for size in of_class]
    groups = np.repeat(np.arange(len(flat)), flat)
    drawn = draw_groups(labels, groups, fraction, np.random.default_rng(seed))
    assert set(labels[drawn]) == set(labels[~drawn]) == set(labels)
