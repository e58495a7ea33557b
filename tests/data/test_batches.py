"""Batches: an epoch shows every picture once, and what a step shows follows from seed, epoch and step alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convatlas.data import Batches, Split
from convatlas.data.batches import affine_maps, derived_seed, pixel_grid, warp
from convatlas.pictures import Preprocessing
from convatlas.spec import Augmentation

CPU = torch.device("cpu")
SIDE = 12
RANDOM = np.random.default_rng(0)
EVERYTHING = Augmentation(shift=0.2, scale=0.1, squeeze=0.1, shear=0.1, rotation=20, flip=True)
BYTES = {
    1: Preprocessing(resolution=SIDE, channels=1, mean=(0.0,), deviation=(1 / 255,)),
    3: Preprocessing(resolution=SIDE, channels=3, mean=(0.0,) * 3, deviation=(1 / 255,) * 3),
}
"""Leaves the values 0 to 255 as they are, for tests that look at them."""


def noise(num: int, channels: int = 1, paper: int | None = None) -> Split:
    """Pictures of noise, each labelled with its index; with `paper`, a border of three pixels has that value."""
    pictures = RANDOM.integers(0, 256, (num, channels, SIDE, SIDE), dtype=np.uint8)
    if paper is not None:
        inside = pictures[..., 3:-3, 3:-3].copy()
        pictures[:] = paper
        pictures[..., 3:-3, 3:-3] = inside
    return Split(pictures, np.arange(num, dtype=np.int64))


def batches(split: Split, augmentation: Augmentation | None = None, batch_size: int = 8, seed: int = 0) -> Batches:
    channels = split.pictures.shape[1]
    return Batches(split, BYTES[channels], batch_size=batch_size, device=CPU, seed=seed, augmentation=augmentation)


def epoch_of(source: Batches, epoch: int) -> list[int]:
    order = source.order(epoch)
    return [int(label) for step in range(len(source)) for label in source.batch(order, epoch, step).labels]


# Orders


@given(num=st.integers(1, 40), batch_size=st.integers(1, 50), epoch=st.integers(0, 1000), seed=st.integers(0, 2**40))
def test_an_epoch_shows_every_picture_exactly_once(num: int, batch_size: int, epoch: int, seed: int) -> None:
    source = batches(noise(num), batch_size=batch_size, seed=seed)
    assert sorted(epoch_of(source, epoch)) == list(range(num))
    assert sorted(source.order(epoch).tolist()) == list(range(num))


def test_every_batch_is_full_but_the_last() -> None:
    source = batches(noise(21), batch_size=8)
    assert len(source) == 3
    assert [len(source.batch(source.order(0), 0, step).labels) for step in range(3)] == [8, 8, 5]


def cut(num: int, batch_size: int) -> list[list[int]]:
    """The batches of an epoch in the set's own order: as ever, but a single picture at the end joins those before."""
    cuts = [list(range(num))[start : start + batch_size] for start in range(0, num, batch_size)]
    if batch_size > 1 and len(cuts) > 1 and len(cuts[-1]) == 1:
        cuts[-2:] = [cuts[-2] + cuts[-1]]
    return cuts


@pytest.mark.parametrize("augmentation", [None, EVERYTHING], ids=["plain", "changed"])
@pytest.mark.parametrize("batch_size", range(1, 9))
def test_a_single_picture_at_the_end_joins_the_batch_before(batch_size: int, augmentation: Augmentation | None) -> None:
    for num in range(1, 3 * batch_size + 3):
        split = noise(num)
        source = batches(split, augmentation, batch_size=batch_size)
        expected = cut(num, batch_size)
        assert len(source) == len(expected)
        order = source.order(3).tolist()
        for step, places in enumerate(expected):
            plain, shown = source.in_order(step), source.batch(torch.tensor(order), 3, step)
            assert plain.labels.tolist() == places
            assert np.array_equal(plain.inputs.numpy(), split.pictures[places])
            chosen = [order[place] for place in places]
            assert shown.labels.tolist() == chosen
            assert len(shown.inputs) == len(chosen)
            if augmentation is None:
                assert np.array_equal(shown.inputs.numpy(), split.pictures[chosen])


@given(num=st.integers(1, 60), batch_size=st.integers(1, 30))
def test_no_batch_has_a_single_picture_where_another_is_there_to_join(num: int, batch_size: int) -> None:
    sizes = [len(places) for places in cut(num, batch_size)]
    assert sum(sizes) == num
    source = batches(noise(num), batch_size=batch_size)
    assert [len(source.in_order(step).labels) for step in range(len(source))] == sizes
    if batch_size > 1 and num > 1:
        assert min(sizes) > 1
        assert max(sizes) <= batch_size + 1
        # All but the last are full.
        assert set(sizes[:-1]) <= {batch_size}


def test_batches_of_one_picture_stay_so() -> None:
    source = batches(noise(5), batch_size=1)
    assert [len(source.in_order(step).labels) for step in range(len(source))] == [1] * 5


def test_a_set_of_one_picture_is_one_batch() -> None:
    for batch_size in (1, 2, 64):
        source = batches(noise(1), batch_size=batch_size)
        assert len(source) == 1
        assert source.in_order(0).labels.tolist() == source.batch(source.order(0), 0, 0).labels.tolist() == [0]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    split = noise(30)
    orders = {
        (seed, epoch): tuple(batches(split, seed=seed).order(epoch).tolist()) for seed in range(3) for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert tuple(batches(split, seed=1).order(2).tolist()) == orders[1, 2]


def test_pictures_keep_their_labels() -> None:
    split = noise(20)
    source = batches(split)
    batch = source.batch(source.order(3), 3, 1)
    assert np.array_equal(batch.inputs.numpy(), split.pictures[batch.labels])


def test_in_order_shows_all_pictures_in_the_sets_own_order() -> None:
    split = noise(21)
    source = batches(split, EVERYTHING)
    shown = [source.in_order(step) for step in range(len(source))]
    assert torch.cat([batch.labels for batch in shown]).tolist() == list(range(21))
    assert np.array_equal(torch.cat([batch.inputs for batch in shown]).numpy(), split.pictures)


def test_a_sample_is_the_start_of_an_order_unchanged() -> None:
    split = noise(21)
    source = batches(split, EVERYTHING)
    order = source.order(0)
    sample = source.sample(order, 5)
    assert sample.labels.tolist() == order[:5].tolist()
    assert np.array_equal(sample.inputs.numpy(), split.pictures[order[:5]])


# Functions of seed, epoch and step


def test_a_batch_does_not_depend_on_what_was_drawn_before() -> None:
    split = noise(24)
    fresh = batches(split, EVERYTHING, seed=5)
    expected = fresh.batch(fresh.order(2), 2, 1)
    used = batches(split, EVERYTHING, seed=5)
    for epoch in range(2):
        epoch_of(used, epoch)
    torch.manual_seed(99)
    torch.rand(7)
    used.in_order(0)
    again = used.batch(used.order(2), 2, 1)
    assert torch.equal(again.inputs, expected.inputs)
    assert torch.equal(again.labels, expected.labels)


def test_drawing_leaves_the_callers_random_numbers_alone() -> None:
    source = batches(noise(24), EVERYTHING)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    epoch_of(source, 0)
    assert torch.equal(torch.rand(3), expected)


def test_seed_epoch_and_step_each_change_how_a_picture_is_changed() -> None:
    split = Split(np.repeat(noise(1).pictures, 16, axis=0), np.arange(16, dtype=np.int64))
    shown = []
    for seed, epoch, step in itertools.product(range(2), repeat=3):
        source = batches(split, EVERYTHING, seed=seed)
        shown.append(source.batch(source.order(epoch), epoch, step).inputs)
    for one, other in itertools.combinations(torch.cat(shown), 2):
        assert not torch.equal(one, other)


def test_batches_leave_the_given_pictures_alone() -> None:
    split = noise(8)
    before = split.pictures.copy()
    source = batches(split, EVERYTHING)
    epoch_of(source, 0)
    source.in_order(0).inputs.zero_()
    assert np.array_equal(split.pictures, before)
    assert np.array_equal(source.in_order(0).inputs.numpy(), before)


def test_pictures_that_may_not_be_written_are_taken() -> None:
    split = noise(8)
    split.pictures.flags.writeable = False
    assert np.array_equal(batches(split).in_order(0).inputs.numpy(), split.pictures)


@given(numbers=st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=3).map(tuple), unique=True, max_size=20))
def test_derived_seeds_are_64_bits_and_differ_for_different_numbers(numbers: list[tuple[int, ...]]) -> None:
    seeds = [derived_seed(*parts) for parts in numbers]
    assert len(set(seeds)) == len(numbers)
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_derived_seeds_are_the_ones_that_resumed_runs_rely_on() -> None:
    assert [derived_seed(0), derived_seed(0, 1), derived_seed(1, 2, 3)] == [
        8493733112532773764,
        14719997280833369599,
        2276728233556386152,
    ]


# Normalising


def test_inputs_are_normalised_as_everywhere_else() -> None:
    split = noise(6, channels=3)
    preprocessing = Preprocessing(resolution=SIDE, channels=3, mean=(0.1, 0.5, 0.9), deviation=(0.2, 0.3, 0.4))
    source = Batches(split, preprocessing, batch_size=6, device=CPU)
    inputs = source.in_order(0).inputs
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert inputs.numpy() == pytest.approx(preprocessing.normalise(split.pictures), abs=1e-5)


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_without_changes_a_batch_is_the_pictures_normalised(augmentation: Augmentation | None) -> None:
    split = noise(20, channels=3)
    source = batches(split, augmentation)
    batch = source.batch(source.order(1), 1, 0)
    assert np.array_equal(batch.inputs.numpy(), split.pictures[batch.labels])


def test_changes_too_small_to_see_are_as_good_as_none() -> None:
    """The path of changed pictures, with its detour over the background, normalises as the plain one."""
    split = noise(20, channels=3)
    preprocessing = Preprocessing(resolution=SIDE, channels=3, mean=(0.1, 0.5, 0.9), deviation=(0.2, 0.3, 0.4))
    source = Batches(split, preprocessing, batch_size=20, device=CPU, augmentation=Augmentation(rotation=1e-9))
    batch = source.batch(source.order(1), 1, 0)
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    assert batch.inputs.numpy() == pytest.approx(preprocessing.normalise(split.pictures[batch.labels]), abs=1e-3)


# Changes


def test_a_shift_moves_by_whole_pixels_and_the_background_moves_in() -> None:
    split = noise(40, channels=3, paper=200)
    source = batches(split, Augmentation(shift=0.25), batch_size=40)
    batch = source.batch(source.order(0), 0, 0)
    most = int(0.25 * SIDE)
    seen = set()
    for changed, label in zip(batch.inputs.numpy(), batch.labels, strict=True):
        wide = np.pad(split.pictures[label], ((0, 0), (most, most), (most, most)), constant_values=200)
        shifts = [
            (down, right)
            for down, right in itertools.product(range(-most, most + 1), repeat=2)
            if np.allclose(
                changed, wide[:, most - down : most - down + SIDE, most - right : most - right + SIDE], atol=0.05
            )
        ]
        assert len(shifts) == 1
        seen.add(shifts[0])
    for direction in range(2):
        assert {shift[direction] for shift in seen} == set(range(-most, most + 1))


def test_the_background_of_each_channel_is_its_own() -> None:
    paper = np.array([10, 120, 250], np.uint8)
    pictures = np.broadcast_to(paper[:, None, None], (16, 3, SIDE, SIDE)).copy()
    source = batches(Split(pictures, np.zeros(16, np.int64)), EVERYTHING, batch_size=16)
    inputs = source.batch(source.order(0), 0, 0).inputs.numpy()
    assert inputs == pytest.approx(pictures.astype(np.float32), abs=1e-3)


def test_a_flip_mirrors_left_and_right_for_about_half_of_the_pictures() -> None:
    split = noise(200)
    source = batches(split, Augmentation(flip=True), batch_size=200)
    batch = source.batch(source.order(0), 0, 0)
    flipped = 0
    for changed, label in zip(batch.inputs.numpy(), batch.labels, strict=True):
        picture = split.pictures[label]
        mirrored = np.allclose(changed, picture[..., ::-1], atol=0.05)
        assert mirrored or np.allclose(changed, picture, atol=0.05)
        flipped += mirrored
    assert 60 < flipped < 140


@pytest.mark.parametrize("side", [1, 7, 8, 28, 32])
def test_the_identity_leaves_pictures_unchanged(side: int) -> None:
    pictures = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).repeat(2, 1, 1)
    assert torch.allclose(warp(pictures, identity, pixel_grid(side)), pictures, atol=1e-5)


def test_a_quarter_turn_turns_and_each_picture_has_its_own_map() -> None:
    pictures = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    # From a place in the changed picture to the place in the given one: right comes from below.
    maps = torch.tensor([[[0.0, -1, 0], [1, 0, 0]], [[1, 0, 0], [0, 1, 0]]])
    changed = warp(pictures, maps, pixel_grid(9))
    assert torch.allclose(changed[0, 0], torch.rot90(pictures[0, 0]), atol=1e-5)
    assert torch.allclose(changed[1], pictures[1], atol=1e-5)


def maps_of(augmentation: Augmentation, num: int = 500, side: int = 28) -> torch.Tensor:
    return affine_maps(num, augmentation, side, torch.Generator().manual_seed(0))


def test_no_augmentation_is_the_identity_map() -> None:
    assert torch.equal(maps_of(Augmentation(), num=3), torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(3, 2, 3))


def test_size_changes_within_what_is_given_and_alike_in_both_directions() -> None:
    maps = maps_of(Augmentation(scale=0.1))
    sizes = 1 / maps[:, 0, 0]
    assert sizes.min() == pytest.approx(0.9, abs=0.01)
    assert sizes.max() == pytest.approx(1.1, abs=0.01)
    assert torch.equal(maps[:, 0, 0], maps[:, 1, 1])
    assert (maps[:, 0, 1:] == 0).all()


def test_a_turn_goes_both_ways_within_what_is_given_and_keeps_the_size() -> None:
    maps = maps_of(Augmentation(rotation=30))
    angles = torch.rad2deg(torch.atan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert angles.min() == pytest.approx(-30, abs=0.5)
    assert angles.max() == pytest.approx(30, abs=0.5)
    assert torch.allclose(maps[:, :, :2] @ maps[:, :, :2].mT, torch.eye(2).expand(500, 2, 2), atol=1e-5)


def test_shear_moves_sideways_only_and_in_proportion_to_the_height() -> None:
    maps = maps_of(Augmentation(shear=0.2))
    assert maps[:, 0, 1].min() == pytest.approx(-0.2, abs=0.01)
    assert maps[:, 0, 1].max() == pytest.approx(0.2, abs=0.01)
    assert (maps[:, [0, 1], [0, 1]] == 1).all()
    assert (maps[:, 1, 0] == 0).all()


@given(squeeze=st.floats(0, 0.3), shear=st.floats(0, 0.3), rotation=st.floats(0, 180), scale=st.floats(0, 0.3))
def test_only_scale_changes_the_area(squeeze: float, shear: float, rotation: float, scale: float) -> None:
    areas = [
        1 / torch.linalg.det(maps_of(augmentation, num=20)[:, :, :2])
        for augmentation in (
            Augmentation(squeeze=squeeze, shear=shear, rotation=rotation, scale=scale),
            Augmentation(scale=scale),
        )
    ]
    assert torch.allclose(areas[0], areas[1], atol=1e-3)
