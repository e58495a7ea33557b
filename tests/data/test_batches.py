"""Batches: an epoch shows every image once, and what a step shows follows from seed, epoch and step alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from convatlas.data import Batches, Split
from convatlas.data.batches import Batch, Shard, derived_seed
from convatlas.data.images import Images, Indices
from convatlas.images import Preprocessing
from convatlas.recipe import Augmentation

CPU = torch.device("cpu")
SIDE = 12
RANDOM = np.random.default_rng(0)
EVERYTHING = Augmentation(shift=0.2, scale=0.1, squeeze=0.1, shear=0.1, rotation=20, flip=True)
CUT = Augmentation(crop=0.3, aspect=1.5, lighting=0.1, mixup=0.5, cutmix=0.5)
BYTES = {
    1: Preprocessing(resize=SIDE, crop=SIDE, channels=1, mean=(0.0,), std=(1 / 255,)),
    3: Preprocessing(resize=SIDE, crop=SIDE, channels=3, mean=(0.0,) * 3, std=(1 / 255,) * 3),
}
"""Leaves the values 0 to 255 as they are, for tests that look at them."""

sizes = st.integers(1, 60)
batch_sizes = st.integers(1, 30)
numbers_of_processes = st.integers(1, 5)


def noise(num: int, channels: int = 1) -> Split:
    """Images of noise, each a class of its own."""
    return Split(RANDOM.integers(0, 256, (num, channels, SIDE, SIDE), dtype=np.uint8), np.arange(num))


def batches(
    split: Split,
    augmentation: Augmentation | None = None,
    *,
    batch_size: int = 8,
    seed: int = 0,
    shard: Shard | None = None,
    device: torch.device = CPU,
) -> Batches:
    return Batches(
        split,
        BYTES[split.images.shape[1]],
        num_classes=len(split),
        batch_size=batch_size,
        device=device,
        seed=seed,
        augmentation=augmentation,
        shard=shard,
    )


def in_order(source: Batches) -> list[Batch]:
    return [source.in_order(step) for step in range(len(source))]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True)) and one[4] == other[4]


# Every image once


@given(
    num=sizes, batch_size=batch_sizes, of=numbers_of_processes, epoch=st.integers(0, 1000), seed=st.integers(0, 2**40)
)
def test_an_epoch_shows_every_image_exactly_once(num: int, batch_size: int, of: int, epoch: int, seed: int) -> None:
    split = noise(num)
    shares = [
        list(batches(split, batch_size=batch_size, seed=seed, shard=Shard(rank, of)).epoch(epoch)) for rank in range(of)
    ]
    shown = torch.cat([batch.indices for shard in shares for batch in shard])
    assert sorted(shown.tolist()) == list(range(num))
    # All processes take the same steps and know how many images are in all of them.
    for step in zip(*shares, strict=True):
        assert {batch.global_batch_size for batch in step} == {sum(len(batch.labels) for batch in step)}
        for batch in step:
            assert torch.equal(batch.labels, batch.indices)
            assert np.array_equal(batch.inputs.numpy(), split.images[batch.indices.numpy()])


@given(num=sizes, batch_size=batch_sizes, of=numbers_of_processes)
def test_evaluation_neither_repeats_nor_drops_an_image(num: int, batch_size: int, of: int) -> None:
    split = noise(num)
    shares = [in_order(batches(split, EVERYTHING, batch_size=batch_size, shard=Shard(rank, of))) for rank in range(of)]
    # In the set's own order: each step's parts side by side.
    for rank in range(of):
        assert len(shares[rank]) == len(shares[0])
    shown = [batch.indices for step in zip(*shares, strict=True) for batch in step]
    assert torch.cat(shown).tolist() == list(range(num))
    for shard in shares:
        for batch in shard:
            assert np.array_equal(batch.inputs.numpy(), split.images[batch.indices.numpy()])
            assert batch.targets.argmax(1).tolist() == batch.labels.tolist() == batch.indices.tolist()
            assert (batch.targets.amax(1) == 1).all()


@pytest.mark.parametrize("num", [1, 2, 3])
def test_more_processes_than_images_evaluate_each_once(num: int) -> None:
    split = noise(num)
    shown = [batch.indices for rank in range(7) for batch in in_order(batches(split, shard=Shard(rank, 7)))]
    assert sorted(torch.cat(shown).tolist()) == list(range(num))
    assert len(shown) == 7


@given(num=sizes, batch_size=batch_sizes, of=numbers_of_processes)
def test_no_process_trains_on_a_single_image_where_others_are_there(num: int, batch_size: int, of: int) -> None:
    # A batch with fewer than two for each process is the person's wish.
    assume(batch_size >= 2 * of and num >= 2 * of)
    split = noise(num)
    shares = [list(batches(split, batch_size=batch_size, shard=Shard(rank, of)).epoch(0)) for rank in range(of)]
    counts = [[len(batch.labels) for batch in shard] for shard in shares]
    assert min(min(shard) for shard in counts) >= 2
    whole = [sum(step) for step in zip(*counts, strict=True)]
    # All but the last are full, and what joins it is less than two for each process.
    assert set(whole[:-1]) <= {batch_size}
    assert whole[-1] < batch_size + 2 * of
    assert len(whole) == len(batches(split, batch_size=batch_size, shard=Shard(0, of)))


def test_every_batch_is_full_but_the_last() -> None:
    assert [len(batch.labels) for batch in batches(noise(21)).epoch(0)] == [8, 8, 5]
    assert [len(batch.labels) for batch in batches(noise(17)).epoch(0)] == [8, 9]
    assert [len(batch.labels) for batch in batches(noise(18)).epoch(0)] == [8, 8, 2]


@pytest.mark.parametrize("augmentation", [None, EVERYTHING], ids=["plain", "changed"])
def test_batches_of_one_image_stay_so(augmentation: Augmentation | None) -> None:
    source = batches(noise(5), augmentation, batch_size=1)
    assert [len(batch.labels) for batch in source.epoch(0)] == [1] * 5
    assert [len(batch.labels) for batch in in_order(source)] == [1] * 5


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_set_of_one_image_is_one_batch(batch_size: int) -> None:
    source = batches(noise(1), EVERYTHING, batch_size=batch_size)
    assert [batch.labels.tolist() for batch in source.epoch(0)] == [[0]]
    assert [batch.labels.tolist() for batch in in_order(source)] == [[0]]


@given(num=st.integers(0, 1000), of=st.integers(1, 50))
def test_shares_are_the_whole_without_overlap_and_differ_by_one_at_most(num: int, of: int) -> None:
    parts = [range(num)[Shard(rank, of).part(num)] for rank in range(of)]
    assert [place for part in parts for place in part] == list(range(num))
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1


# Functions of seed, epoch and step


def test_order_is_a_function_of_seed_and_epoch() -> None:
    split = noise(30)
    orders = {
        (seed, epoch): tuple(batches(split, seed=seed).order(epoch).tolist()) for seed in range(3) for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert tuple(batches(split, seed=1).order(2).tolist()) == orders[1, 2]


@given(num=sizes, batch_size=batch_sizes, of=numbers_of_processes, epoch=st.integers(0, 20))
def test_the_order_does_not_depend_on_the_number_of_processes(num: int, batch_size: int, of: int, epoch: int) -> None:
    split = noise(num)
    alone = batches(split, batch_size=batch_size)
    shares = [list(batches(split, batch_size=batch_size, shard=Shard(rank, of)).epoch(epoch)) for rank in range(of)]
    together = torch.cat([batch.indices for step in zip(*shares, strict=True) for batch in step])
    assert together.tolist() == torch.cat([batch.indices for batch in alone.epoch(epoch)]).tolist()
    assert together.tolist() == alone.order(epoch).tolist()


@pytest.mark.parametrize("augmentation", [None, EVERYTHING, CUT], ids=["plain", "distorted", "cut and mixed"])
@pytest.mark.parametrize("shard", [Shard(), Shard(1, 2)], ids=["alone", "one of two"])
def test_an_epoch_from_a_step_on_is_the_end_of_the_whole(augmentation: Augmentation | None, shard: Shard) -> None:
    source = batches(noise(45, channels=3), augmentation, shard=shard)
    whole = list(source.epoch(3))
    for start in range(len(whole) + 1):
        rest = list(batches(source.split, augmentation, shard=shard).epoch(3, start))
        assert len(rest) == len(whole) - start
        assert all(same(one, other) for one, other in zip(rest, whole[start:], strict=True))


def test_a_sample_is_the_start_of_an_order_unchanged() -> None:
    split = noise(21)
    source = batches(split, EVERYTHING)
    sample = source.sample(2, 5)
    assert sample.labels.tolist() == source.order(2)[:5].tolist()
    assert np.array_equal(sample.inputs.numpy(), split.images[source.order(2)[:5]])
    assert len(source.sample(2, 500).labels) == 21


def test_drawing_leaves_the_callers_random_numbers_alone() -> None:
    source = batches(noise(24), CUT)
    torch.manual_seed(1)
    np.random.seed(1)  # whether the old global state is left alone is the question
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(1)
    np.random.seed(1)
    list(source.epoch(0))
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])


def test_batches_leave_the_given_images_alone() -> None:
    split = noise(8)
    before = np.array(split.images[:])
    source = batches(split, CUT)
    list(source.epoch(0))
    source.in_order(0).inputs.zero_()
    assert np.array_equal(split.images[:], before)
    assert np.array_equal(source.in_order(0).inputs.numpy(), before)


def test_images_that_may_not_be_written_are_taken() -> None:
    images = np.array(noise(8).images[:])
    images.flags.writeable = False
    assert np.array_equal(batches(Split(images, np.arange(8))).in_order(0).inputs.numpy(), images)


@given(
    numbers=st.lists(
        st.lists(st.integers(0, 200) | st.text("abc", min_size=1), min_size=1, max_size=3).map(tuple),
        unique_by=lambda parts: tuple(map(str, parts)),
        max_size=20,
    )
)
def test_derived_seeds_are_64_bits_and_differ_for_different_parts(numbers: list[tuple[int | str, ...]]) -> None:
    seeds = [derived_seed(*parts) for parts in numbers]
    assert len(set(seeds)) == len(numbers)
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_derived_seeds_are_the_ones_that_resumed_runs_rely_on() -> None:
    assert [derived_seed(0), derived_seed(0, 1), derived_seed(1, 2, 3), derived_seed(0, "held out")] == [
        8493733112532773764,
        14719997280833369599,
        2276728233556386152,
        15576045253469176764,
    ]


# Where images lie


@dataclass
class Shelf:
    """Images that are read as they are asked for, as from a file."""

    images: npt.NDArray[np.uint8]
    asked: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        self.asked += np.arange(len(self.images))[indices].tolist()
        return self.images[indices].copy()


def mapped(path: Path, images: npt.NDArray[np.uint8]) -> Images:
    path.write_bytes(images.tobytes())
    return np.memmap(path, np.uint8, "r", shape=images.shape)


PLACES: dict[str, Callable[[Path, npt.NDArray[np.uint8]], Images]] = {
    "mapped": mapped,
    "read when asked": lambda path, images: Shelf(images),
}


@pytest.mark.parametrize("augmentation", [None, EVERYTHING, CUT], ids=["plain", "distorted", "cut and mixed"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shard", [Shard(), Shard(1, 3)], ids=["alone", "one of three"])
def test_wherever_images_lie_the_batches_are_the_same(
    place: str, augmentation: Augmentation | None, shard: Shard, tmp_path: Path
) -> None:
    # More than the sample from which colors are taken.
    split = noise(1203, channels=3)
    lying = Split(PLACES[place](tmp_path / "images", np.asarray(split.images)), split.labels)
    ours, theirs = (batches(of, augmentation, batch_size=200, shard=shard) for of in (lying, split))
    for start in (0, 2, len(ours)):
        for one, other in zip(ours.epoch(1, start), theirs.epoch(1, start), strict=True):
            assert same(one, other)
    assert all(same(one, other) for one, other in zip(in_order(ours), in_order(theirs), strict=True))
    assert same(ours.sample(0, 5), theirs.sample(0, 5))


@pytest.mark.parametrize("augmentation", [None, EVERYTHING, CUT], ids=["plain", "distorted", "cut and mixed"])
def test_on_any_device_the_batches_are_those_of_the_cpu(
    augmentation: Augmentation | None, any_device: torch.device
) -> None:
    split = noise(300, channels=3)
    expected = list(batches(split, augmentation, batch_size=20).epoch(1))
    # On the device from the beginning, and copied batch by batch, from pinned memory to a GPU.
    for lying in (split, Split(Shelf(np.asarray(split.images)), split.labels)):
        # All are kept to the end: memory that was used again before its copy had left would show.
        given = list(batches(lying, augmentation, batch_size=20, device=any_device).epoch(1))
        for one, other in zip(given, expected, strict=True):
            assert {value.device.type for value in one[:3]} == {any_device.type}
            assert torch.equal(one.labels.cpu(), other.labels)
            assert torch.equal(one.indices, other.indices)
            torch.testing.assert_close(one.targets.cpu(), other.targets)
            # Of 255: a GPU rounds places between pixels otherwise.
            torch.testing.assert_close(one.inputs.cpu(), other.inputs, rtol=0, atol=0.1)


@pytest.mark.parametrize("augmentation", [None, EVERYTHING], ids=["plain", "changed"])
def test_an_image_is_read_once_an_epoch(augmentation: Augmentation | None) -> None:
    shelf = Shelf(np.asarray(noise(50).images))
    source = batches(Split(shelf, np.arange(50)), augmentation)
    shelf.asked.clear()
    list(source.epoch(0))
    assert sorted(shelf.asked) == list(range(50))


def test_an_epoch_that_is_given_up_reads_no_further_than_the_next_batch() -> None:
    shelf = Shelf(np.asarray(noise(80).images))
    source = batches(Split(shelf, np.arange(80)), EVERYTHING)
    shelf.asked.clear()
    epoch = source.epoch(0)
    next(epoch)
    epoch.close()
    assert len(shelf.asked) <= 16


def test_an_image_that_cannot_be_read_stops_the_epoch() -> None:
    class Broken(Shelf):
        def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
            if isinstance(indices, np.ndarray) and 7 in indices:
                raise OSError("the disk is gone")
            return super().__getitem__(indices)

    source = batches(Split(Broken(np.asarray(noise(80).images)), np.arange(80)), EVERYTHING)
    epoch = source.epoch(0)
    # Every batch before the one with the image is shown.
    for _ in range(source.order(0).tolist().index(7) // 8):
        assert len(next(epoch).labels) == 8
    with pytest.raises(OSError, match="the disk is gone"):
        next(epoch)


# Normalizing


def test_inputs_are_normalized_as_everywhere_else() -> None:
    split = noise(6, channels=3)
    preprocessing = Preprocessing(resize=SIDE, crop=SIDE, channels=3, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    source = Batches(split, preprocessing, num_classes=6, batch_size=6, device=CPU)
    inputs = source.in_order(0).inputs
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert inputs.numpy() == pytest.approx(preprocessing.normalize(np.asarray(split.images)), abs=1e-5)


def test_what_is_evaluated_is_the_middle_of_an_image_with_a_margin() -> None:
    split = noise(6, channels=3)
    preprocessing = Preprocessing(resize=SIDE, crop=SIDE - 4, channels=3, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    source = Batches(split, preprocessing, num_classes=6, batch_size=6, device=CPU, augmentation=EVERYTHING)
    assert np.array_equal(source.in_order(0).inputs.numpy(), np.asarray(split.images)[..., 2:-2, 2:-2])
    [batch] = source.epoch(0)
    assert batch.inputs.shape == (6, 3, SIDE - 4, SIDE - 4)


@pytest.mark.parametrize("part", [0.5, 0.75])
def test_what_is_learned_may_be_smaller_than_what_is_tested(part: float) -> None:
    smaller = batches(noise(4), Augmentation(crop=0.5, side=part))
    (learned,) = smaller.epoch(0)
    side = round(part * SIDE)
    assert learned.inputs.shape == (4, 1, side, side)
    assert smaller.in_order(0).inputs.shape == smaller.sample(0, 4).inputs.shape == (4, 1, SIDE, SIDE)


def test_a_smaller_image_shows_the_same_cut() -> None:
    # A slope: what lies where is told by its value.
    slope = np.broadcast_to(np.linspace(20, 220, SIDE).astype(np.uint8), (1, 1, SIDE, SIDE))
    (whole,) = batches(Split(slope, np.arange(1)), Augmentation(crop=0.5)).epoch(0)
    (half,) = batches(Split(slope, np.arange(1)), Augmentation(crop=0.5, side=0.5)).epoch(0)
    torch.testing.assert_close(F.avg_pool2d(whole.inputs, 2), half.inputs, rtol=0, atol=6)


def test_changes_too_small_to_see_are_as_good_as_none() -> None:
    """The path of changed images, with its detour over the background, normalizes as the plain one."""
    split = noise(20, channels=3)
    preprocessing = Preprocessing(resize=SIDE, crop=SIDE, channels=3, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    source = Batches(
        split, preprocessing, num_classes=20, batch_size=20, device=CPU, augmentation=Augmentation(rotation=1e-9)
    )
    [batch] = source.epoch(1)
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    expected = preprocessing.normalize(np.asarray(split.images)[batch.indices])
    assert batch.inputs.numpy() == pytest.approx(expected, abs=1e-3)


def test_the_number_of_batches_is_what_an_epoch_takes() -> None:
    for num, batch_size in ((1, 8), (7, 8), (8, 8), (9, 8), (10, 8), (1442, 128)):
        source = batches(noise(num), batch_size=batch_size)
        assert len(source) == len(list(source.epoch(0)))
        assert math.floor(num / batch_size) <= max(len(source), 1) <= math.ceil(num / batch_size)
