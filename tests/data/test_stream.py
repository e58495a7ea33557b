"""A stream is walked once in any order that it makes itself, holds few pictures meanwhile, and keeps none."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.data import Batches, Split, stream
from convatlas.data.batches import Share
from convatlas.data.stream import Stream
from convatlas.errors import UserError
from convatlas.pictures import Preprocessing
from convatlas.recipe import Augmentation

SIDE = 4
NO_PICTURE = b"<!DOCTYPE html><p>404"


def encoded(number: int) -> bytes:
    """A picture whose colour is its number."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


def numbers(pictures: npt.NDArray[np.uint8]) -> list[int]:
    return (pictures[:, 0, 0, 0] + 256 * pictures[:, 1, 0, 0].astype(np.int64)).tolist()


@dataclass
class Numbered:
    number: int
    source: Source

    @property
    def path(self) -> Path:
        return Path(f"there/{self.number}")

    def opened(self) -> io.BytesIO:
        self.source.opened.append(self.number)
        return io.BytesIO(self.source.odd.get(self.number) or encoded(self.number))


@dataclass
class Source:
    """Shards that count who reads them."""

    num: Sequence[int]
    odd: dict[int, bytes] = field(default_factory=dict)
    read_shards: list[int] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    missing: int = 0

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        return np.array(self.num, np.int64)

    def read(self, shard: int) -> Iterator[Numbered]:
        self.read_shards.append(shard)
        begin = sum(self.num[:shard])
        for number in range(begin, begin + self.num[shard] - self.missing):
            yield Numbered(number, self)


def streamed(*num: int, odd: dict[int, bytes] | None = None) -> tuple[Stream, Source]:
    source = Source(num, odd or {})
    return Stream(source, b"here", np.arange(sum(num)), SIDE), source


def batches(of: Stream, share: Share, *, augmented: bool = False) -> Batches:
    return Batches(
        Split(of, np.arange(len(of)) % 3),
        Preprocessing(resolution=SIDE, channels=3, mean=(0.4,) * 3, deviation=(0.2,) * 3),
        num_classes=3,
        batch_size=8,
        device=torch.device("cpu"),
        seed=5,
        augmentation=Augmentation(shift=0.25, flip=True, mixup=0.5, lighting=0.1) if augmented else None,
        share=share,
    )


SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any)


@given(sizes=SIZES, buffer=st.integers(1, 40), seed=st.integers(0, 9), cut=st.integers(1, 11))
def test_any_order_of_its_own_is_one_walk_that_holds_no_more_than_the_buffer(
    sizes: list[int], buffer: int, seed: int, cut: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "BUFFER", buffer)
        pictures, source = streamed(*sizes)
        most = 0
        kept = stream._Walk.example

        def example(walk: stream._Walk, place: int) -> stream.Example:
            nonlocal most
            found = kept(walk, place)
            most = max(most, len(walk.held))
            return found

        patch.setattr(stream._Walk, "example", example)
        order = pictures.order(seed)
        assert sorted(order.tolist()) == list(range(sum(sizes)))
        assert order.tolist() == pictures.order(seed).tolist()
        parts = np.split(order, range(cut, len(order), cut))
        assert [numbers(part) for part in pictures.read(parts)] == [part.tolist() for part in parts]
        assert sorted(source.read_shards) == [i for i, size in enumerate(sizes) if size]
        assert sorted(source.opened) == sorted(order.tolist())
        assert most <= buffer + max(sizes) * stream.DEALT


def test_another_seed_is_another_order() -> None:
    for num in (50, stream.BUFFER + 50):
        pictures, _ = streamed(num)
        orders = [pictures.order(seed).tolist() for seed in range(4)]
        assert all(one != other for i, one in enumerate(orders) for other in orders[:i])
        # As of a set in memory: no neighbours stay neighbours but by chance.
        assert sum(b - a == 1 for a, b in zip(orders[0], orders[0][1:], strict=False)) < 10


def test_a_set_sorted_by_class_in_many_shards_is_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER", 400)
    pictures, _ = streamed(*[50] * 100)
    # Ten classes, one after another.
    seen = pictures.order(1).reshape(-1, 500) // 500
    assert min(len(np.unique(part)) for part in seen) >= 7


def test_pictures_that_are_a_shard_each_are_shuffled_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER", 20)
    pictures, _ = streamed(*[1] * 2000)
    # Of each fifth of the epoch about a fifth from each fifth of the set.
    seen = pictures.order(1).reshape(5, 400) // 400
    counts = np.array([np.bincount(part, minlength=5) for part in seen])
    assert counts.min() > 50


@pytest.mark.parametrize("augmented", [False, True])
def test_any_number_of_processes_sees_the_same_batches(augmented: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER", 20)
    pictures, _ = streamed(9, 30, 4, 17)
    pictures = pictures.sampled(0)
    alone = list(batches(pictures, Share(), augmented=augmented).epoch(2))
    for of in (2, 3):
        ours = [list(batches(pictures, Share(rank, of), augmented=augmented).epoch(2)) for rank in range(of)]
        # What is left at the end joins the batch before where it is too little for that many.
        for whole, *shares in list(zip(alone, *ours, strict=False))[:-1]:
            assert torch.equal(torch.cat([share.indices for share in shares]), whole.indices)
            if not augmented:
                assert torch.equal(torch.cat([share.inputs for share in shares]), whole.inputs)
        assert torch.equal(
            torch.cat([batch.indices for step in zip(*ours, strict=True) for batch in step]),
            torch.cat([batch.indices for batch in alone]),
        )


def test_an_epoch_from_a_step_on_is_its_tail_and_decodes_nothing_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER", 20)
    pictures, source = streamed(9, 30, 4, 17)
    pictures = pictures.sampled(0)
    whole = list(batches(pictures, Share(), augmented=True).epoch(1))
    for start in range(len(whole)):
        source.opened.clear()
        tail = list(batches(pictures, Share(), augmented=True).epoch(1, start))
        assert len(tail) == len(whole) - start
        for one, other in zip(tail, whole[start:], strict=True):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.targets, other.targets)
            assert torch.equal(one.indices, other.indices)
        assert sorted(source.opened) == sorted(i for batch in tail for i in batch.indices.tolist())


def test_a_share_decodes_no_picture_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, source = streamed(9, 30, 4, 17)
    own = [i for batch in batches(pictures, Share(1, 3)).epoch(0) for i in batch.indices.tolist()]
    assert sorted(source.opened) == sorted(own)
    assert len(own) == pytest.approx(60 / 3, abs=8)


@pytest.mark.parametrize("of", [1, 2, 3])
def test_evaluation_sees_every_picture_once_in_one_walk(of: int) -> None:
    seen: list[int] = []
    for rank in range(of):
        pictures, source = streamed(9, 30, 4, 17)
        own = batches(pictures, Share(rank, of))
        seen += [i for step in range(len(own)) for i in own.in_order(step).indices.tolist()]
        assert len(source.read_shards) == len(set(source.read_shards))
    assert sorted(seen) == list(range(60))


def test_pictures_are_found_in_any_order_and_again() -> None:
    pictures, _ = streamed(5, 5)
    for wanted in ([3, 9, 0], [9], [0, 0, 4], []):
        assert numbers(pictures[np.array(wanted, np.int64)]) == wanted
    assert numbers(pictures[2:8:2]) == [2, 4, 6]
    assert numbers(pictures[np.arange(10) > 6]) == [7, 8, 9]


def test_a_part_is_a_stream_of_its_own() -> None:
    pictures, _ = streamed(5, 5, 5)
    split = Split(pictures, np.arange(15) % 3)
    rest, held_out = split.parted(0.2, np.random.default_rng(0))
    assert isinstance(held_out.pictures, Stream)
    assert sorted(numbers(rest.pictures[:]) + numbers(held_out.pictures[:])) == list(range(15))
    assert [number % 3 for number in numbers(held_out.pictures[:])] == held_out.labels.tolist()
    order = rest.pictures.order(3)
    [read] = rest.pictures.read([order])
    assert numbers(read) == np.array(numbers(rest.pictures[:]))[order].tolist()
    assert rest.checksum != split.checksum == Split(pictures, split.labels).checksum


def test_it_is_grey_if_its_sample_is() -> None:
    greys = [io.BytesIO() for _ in range(6)]
    for i, file in enumerate(greys):
        Image.new("L", (SIDE, SIDE), 40 * i).save(file, "PNG")
    grey, _ = streamed(6, odd={i: file.getvalue() for i, file in enumerate(greys)})
    grey = grey.sampled(0)
    assert grey.shape == (6, 1, SIDE, SIDE)
    assert sorted(grey.sample[:, 0, 0, 0].tolist()) == [0, 40, 80, 120, 160, 200]
    mixed, _ = streamed(6, odd={2: greys[2].getvalue()})
    assert mixed.sampled(0).shape == (6, 3, SIDE, SIDE)


def test_the_sample_is_of_many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SAMPLED", 20)
    pictures, _ = streamed(*[50] * 20)
    found = numbers(pictures.sampled(3).sample)
    assert len(found) == 20
    assert len({number // 50 for number in found}) == stream.DEALT
    assert found == numbers(pictures.sampled(3).sample) != numbers(pictures.sampled(4).sample)


def test_a_damaged_picture_stops_with_its_name_and_the_good_ones_are_known() -> None:
    pictures, _ = streamed(5, 5, odd={3: NO_PICTURE, 8: encoded(8)[:-25]})
    with pytest.raises(UserError, match=r"^there/3: not a picture .*; --skip-bad leaves such pictures out") as caught:
        pictures[:]
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="there/8: damaged or cut short"):
        list(pictures.read([np.array([9, 8])]))
    with pytest.raises(UserError, match="there/"):
        list(batches(pictures, Share()).epoch(0))
    good, errors = pictures.usable()
    assert good.tolist() == [0, 1, 2, 4, 5, 6, 7, 9]
    assert [str(error.path) for error in errors] == ["there/3", "there/8"]
    assert numbers(pictures.take(good)[:]) == good.tolist()


def test_a_source_that_became_shorter_is_noticed() -> None:
    pictures, source = streamed(5, 5)
    source.missing = 1
    with pytest.raises(UserError, match="fewer pictures than when it was opened"):
        pictures[:]
