"""Batches: an epoch shows every picture once, and what a step shows follows from seed, epoch and step alone."""

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
from convatlas.data.batches import Batch, Share, derived_seed
from convatlas.data.dataset import Indices, Pictures
from convatlas.pictures import Preprocessing
from convatlas.recipe import Augmentation

CPU = torch.device("cpu")
SIDE = 12
RANDOM = np.random.default_rng(0)
EVERYTHING = Augmentation(shift=0.2, scale=0.1, squeeze=0.1, shear=0.1, rotation=20, flip=True)
CUT = Augmentation(crop=0.3, aspect=1.5, lighting=0.1, mixup=0.5, cutmix=0.5)
BYTES = {
    1: Preprocessing(resolution=SIDE, channels=1, mean=(0.0,), deviation=(1 / 255,)),
    3: Preprocessing(resolution=SIDE, channels=3, mean=(0.0,) * 3, deviation=(1 / 255,) * 3),
}
"""Leaves the values 0 to 255 as they are, for tests that look at them."""

sizes = st.integers(1, 60)
batch_sizes = st.integers(1, 30)
numbers_of_processes = st.integers(1, 5)


def noise(num: int, channels: int = 1) -> Split:
    """Pictures of noise, each a class of its own."""
    return Split(RANDOM.integers(0, 256, (num, channels, SIDE, SIDE), dtype=np.uint8), np.arange(num))


def batches(
    split: Split,
    augmentation: Augmentation | None = None,
    *,
    batch_size: int = 8,
    seed: int = 0,
    share: Share | None = None,
) -> Batches:
    return Batches(
        split,
        BYTES[split.pictures.shape[1]],
        num_classes=len(split),
        batch_size=batch_size,
        device=CPU,
        seed=seed,
        augmentation=augmentation,
        share=share,
    )


def in_order(source: Batches) -> list[Batch]:
    return [source.in_order(step) for step in range(len(source))]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True)) and one[4] == other[4]


# Every picture once


@given(
    num=sizes, batch_size=batch_sizes, of=numbers_of_processes, epoch=st.integers(0, 1000), seed=st.integers(0, 2**40)
)
def test_an_epoch_shows_every_picture_exactly_once(num: int, batch_size: int, of: int, epoch: int, seed: int) -> None:
    split = noise(num)
    shares = [
        list(batches(split, batch_size=batch_size, seed=seed, share=Share(rank, of)).epoch(epoch)) for rank in range(of)
    ]
    shown = torch.cat([batch.indices for share in shares for batch in share])
    assert sorted(shown.tolist()) == list(range(num))
    # All processes take the same steps and know how many pictures are in all of them.
    for step in zip(*shares, strict=True):
        assert {batch.num_in_all for batch in step} == {sum(len(batch.labels) for batch in step)}
        for batch in step:
            assert torch.equal(batch.labels, batch.indices)
            assert np.array_equal(batch.inputs.numpy(), split.pictures[batch.indices.numpy()])


@given(num=sizes, batch_size=batch_sizes, of=numbers_of_processes)
def test_evaluation_neither_repeats_nor_drops_a_picture(num: int, batch_size: int, of: int) -> None:
    split = noise(num)
    shares = [in_order(batches(split, EVERYTHING, batch_size=batch_size, share=Share(rank, of))) for rank in range(of)]
    # In the set's own order: each step's parts side by side.
    for rank in range(of):
        assert len(shares[rank]) == len(shares[0])
    shown = [batch.indices for step in zip(*shares, strict=True) for batch in step]
    assert torch.cat(shown).tolist() == list(range(num))
    for share in shares:
        for batch in share:
            assert np.array_equal(batch.inputs.numpy(), split.pictures[batch.indices.numpy()])
            assert batch.targets.argmax(1).tolist() == batch.labels.tolist() == batch.indices.tolist()
            assert (batch.targets.amax(1) == 1).all()


@pytest.mark.parametrize("num", [1, 2, 3])
def test_more_processes_than_pictures_evaluate_each_once(num: int) -> None:
    split = noise(num)
    shown = [batch.indices for rank in range(7) for batch in in_order(batches(split, share=Share(rank, 7)))]
    assert sorted(torch.cat(shown).tolist()) == list(range(num))
    assert len(shown) == 7


@given(num=sizes, batch_size=batch_sizes, of=numbers_of_processes)
def test_no_process_trains_on_a_single_picture_where_others_are_there(num: int, batch_size: int, of: int) -> None:
    # A batch with fewer than two for each process is the person's wish.
    assume(batch_size >= 2 * of and num >= 2 * of)
    split = noise(num)
    shares = [list(batches(split, batch_size=batch_size, share=Share(rank, of)).epoch(0)) for rank in range(of)]
    counts = [[len(batch.labels) for batch in share] for share in shares]
    assert min(min(share) for share in counts) >= 2
    whole = [sum(step) for step in zip(*counts, strict=True)]
    # All but the last are full, and what joins it is less than two for each process.
    assert set(whole[:-1]) <= {batch_size}
    assert whole[-1] < batch_size + 2 * of
    assert len(whole) == len(batches(split, batch_size=batch_size, share=Share(0, of)))


def test_every_batch_is_full_but_the_last() -> None:
    assert [len(batch.labels) for batch in batches(noise(21)).epoch(0)] == [8, 8, 5]
    assert [len(batch.labels) for batch in batches(noise(17)).epoch(0)] == [8, 9]
    assert [len(batch.labels) for batch in batches(noise(18)).epoch(0)] == [8, 8, 2]


@pytest.mark.parametrize("augmentation", [None, EVERYTHING], ids=["plain", "changed"])
def test_batches_of_one_picture_stay_so(augmentation: Augmentation | None) -> None:
    source = batches(noise(5), augmentation, batch_size=1)
    assert [len(batch.labels) for batch in source.epoch(0)] == [1] * 5
    assert [len(batch.labels) for batch in in_order(source)] == [1] * 5


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_set_of_one_picture_is_one_batch(batch_size: int) -> None:
    source = batches(noise(1), EVERYTHING, batch_size=batch_size)
    assert [batch.labels.tolist() for batch in source.epoch(0)] == [[0]]
    assert [batch.labels.tolist() for batch in in_order(source)] == [[0]]


@given(num=st.integers(0, 1000), of=st.integers(1, 50))
def test_shares_are_the_whole_without_overlap_and_differ_by_one_at_most(num: int, of: int) -> None:
    parts = [range(num)[Share(rank, of).part(num)] for rank in range(of)]
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
    shares = [list(batches(split, batch_size=batch_size, share=Share(rank, of)).epoch(epoch)) for rank in range(of)]
    together = torch.cat([batch.indices for step in zip(*shares, strict=True) for batch in step])
    assert together.tolist() == torch.cat([batch.indices for batch in alone.epoch(epoch)]).tolist()
    assert together.tolist() == alone.order(epoch).tolist()


@pytest.mark.parametrize("augmentation", [None, EVERYTHING, CUT], ids=["plain", "distorted", "cut and mixed"])
@pytest.mark.parametrize("share", [Share(), Share(1, 2)], ids=["alone", "one of two"])
def test_an_epoch_from_a_step_on_is_the_end_of_the_whole(augmentation: Augmentation | None, share: Share) -> None:
    source = batches(noise(45, channels=3), augmentation, share=share)
    whole = list(source.epoch(3))
    for start in range(len(whole) + 1):
        rest = list(batches(source.split, augmentation, share=share).epoch(3, start))
        assert len(rest) == len(whole) - start
        assert all(same(one, other) for one, other in zip(rest, whole[start:], strict=True))


def test_a_sample_is_the_start_of_an_order_unchanged() -> None:
    split = noise(21)
    source = batches(split, EVERYTHING)
    sample = source.sample(2, 5)
    assert sample.labels.tolist() == source.order(2)[:5].tolist()
    assert np.array_equal(sample.inputs.numpy(), split.pictures[source.order(2)[:5]])
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


def test_batches_leave_the_given_pictures_alone() -> None:
    split = noise(8)
    before = np.array(split.pictures[:])
    source = batches(split, CUT)
    list(source.epoch(0))
    source.in_order(0).inputs.zero_()
    assert np.array_equal(split.pictures[:], before)
    assert np.array_equal(source.in_order(0).inputs.numpy(), before)


def test_pictures_that_may_not_be_written_are_taken() -> None:
    pictures = np.array(noise(8).pictures[:])
    pictures.flags.writeable = False
    assert np.array_equal(batches(Split(pictures, np.arange(8))).in_order(0).inputs.numpy(), pictures)


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


# Where pictures lie


@dataclass
class Shelf:
    """Pictures that are read as they are asked for, as from a file."""

    pictures: npt.NDArray[np.uint8]
    asked: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pictures.shape

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        self.asked += np.arange(len(self.pictures))[indices].tolist()
        return self.pictures[indices].copy()


def mapped(path: Path, pictures: npt.NDArray[np.uint8]) -> Pictures:
    path.write_bytes(pictures.tobytes())
    return np.memmap(path, np.uint8, "r", shape=pictures.shape)


PLACES: dict[str, Callable[[Path, npt.NDArray[np.uint8]], Pictures]] = {
    "mapped": mapped,
    "read when asked": lambda path, pictures: Shelf(pictures),
}


@pytest.mark.parametrize("augmentation", [None, EVERYTHING, CUT], ids=["plain", "distorted", "cut and mixed"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("share", [Share(), Share(1, 3)], ids=["alone", "one of three"])
def test_wherever_pictures_lie_the_batches_are_the_same(
    place: str, augmentation: Augmentation | None, share: Share, tmp_path: Path
) -> None:
    # More than the sample from which colours are taken.
    split = noise(1203, channels=3)
    lying = Split(PLACES[place](tmp_path / "pictures", np.asarray(split.pictures)), split.labels)
    ours, theirs = (batches(of, augmentation, batch_size=200, share=share) for of in (lying, split))
    for start in (0, 2, len(ours)):
        for one, other in zip(ours.epoch(1, start), theirs.epoch(1, start), strict=True):
            assert same(one, other)
    assert all(same(one, other) for one, other in zip(in_order(ours), in_order(theirs), strict=True))
    assert same(ours.sample(0, 5), theirs.sample(0, 5))


@pytest.mark.parametrize("augmentation", [None, EVERYTHING], ids=["plain", "changed"])
def test_a_picture_is_read_once_an_epoch(augmentation: Augmentation | None) -> None:
    shelf = Shelf(np.asarray(noise(50).pictures))
    source = batches(Split(shelf, np.arange(50)), augmentation)
    shelf.asked.clear()
    list(source.epoch(0))
    assert sorted(shelf.asked) == list(range(50))


def test_an_epoch_that_is_given_up_reads_no_further_than_the_next_batch() -> None:
    shelf = Shelf(np.asarray(noise(80).pictures))
    source = batches(Split(shelf, np.arange(80)), EVERYTHING)
    shelf.asked.clear()
    epoch = source.epoch(0)
    next(epoch)
    epoch.close()
    assert len(shelf.asked) <= 16


def test_a_picture_that_cannot_be_read_stops_the_epoch() -> None:
    class Broken(Shelf):
        def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
            if isinstance(indices, np.ndarray) and 7 in indices:
                raise OSError("the disk is gone")
            return super().__getitem__(indices)

    source = batches(Split(Broken(np.asarray(noise(80).pictures)), np.arange(80)), EVERYTHING)
    epoch = source.epoch(0)
    # Every batch before the one with the picture is shown.
    for _ in range(source.order(0).tolist().index(7) // 8):
        assert len(next(epoch).labels) == 8
    with pytest.raises(OSError, match="the disk is gone"):
        next(epoch)


# Normalising


def test_inputs_are_normalised_as_everywhere_else() -> None:
    split = noise(6, channels=3)
    preprocessing = Preprocessing(resolution=SIDE, channels=3, mean=(0.1, 0.5, 0.9), deviation=(0.2, 0.3, 0.4))
    source = Batches(split, preprocessing, num_classes=6, batch_size=6, device=CPU)
    inputs = source.in_order(0).inputs
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert inputs.numpy() == pytest.approx(preprocessing.normalise(np.asarray(split.pictures)), abs=1e-5)


def test_what_is_evaluated_is_the_middle_of_a_picture_with_a_margin() -> None:
    split = noise(6, channels=3)
    preprocessing = Preprocessing(resolution=SIDE - 4, channels=3, mean=(0.0,) * 3, deviation=(1 / 255,) * 3, margin=2)
    source = Batches(split, preprocessing, num_classes=6, batch_size=6, device=CPU, augmentation=EVERYTHING)
    assert np.array_equal(source.in_order(0).inputs.numpy(), np.asarray(split.pictures)[..., 2:-2, 2:-2])
    [batch] = source.epoch(0)
    assert batch.inputs.shape == (6, 3, SIDE - 4, SIDE - 4)


@pytest.mark.parametrize("part", [0.5, 0.75])
def test_what_is_learned_may_be_smaller_than_what_is_tested(part: float) -> None:
    smaller = batches(noise(4), Augmentation(crop=0.5, side=part))
    (learned,) = smaller.epoch(0)
    side = round(part * SIDE)
    assert learned.inputs.shape == (4, 1, side, side)
    assert smaller.in_order(0).inputs.shape == smaller.sample(0, 4).inputs.shape == (4, 1, SIDE, SIDE)


def test_a_smaller_picture_shows_the_same_cut() -> None:
    # A slope: what lies where is told by its value.
    slope = np.broadcast_to(np.linspace(20, 220, SIDE).astype(np.uint8), (1, 1, SIDE, SIDE))
    (whole,) = batches(Split(slope, np.arange(1)), Augmentation(crop=0.5)).epoch(0)
    (half,) = batches(Split(slope, np.arange(1)), Augmentation(crop=0.5, side=0.5)).epoch(0)
    torch.testing.assert_close(F.avg_pool2d(whole.inputs, 2), half.inputs, rtol=0, atol=6)


def test_changes_too_small_to_see_are_as_good_as_none() -> None:
    """The path of changed pictures, with its detour over the background, normalises as the plain one."""
    split = noise(20, channels=3)
    preprocessing = Preprocessing(resolution=SIDE, channels=3, mean=(0.1, 0.5, 0.9), deviation=(0.2, 0.3, 0.4))
    source = Batches(
        split, preprocessing, num_classes=20, batch_size=20, device=CPU, augmentation=Augmentation(rotation=1e-9)
    )
    [batch] = source.epoch(1)
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    expected = preprocessing.normalise(np.asarray(split.pictures)[batch.indices])
    assert batch.inputs.numpy() == pytest.approx(expected, abs=1e-3)


def test_the_number_of_batches_is_what_an_epoch_takes() -> None:
    for num, batch_size in ((1, 8), (7, 8), (8, 8), (9, 8), (10, 8), (1442, 128)):
        source = batches(noise(num), batch_size=batch_size)
        assert len(source) == len(list(source.epoch(0)))
        assert math.floor(num / batch_size) <= max(len(source), 1) <= math.ceil(num / batch_size)
