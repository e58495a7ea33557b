"""A stream is walked once in any order that it makes itself, holds few images meanwhile, and keeps none."""

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
from convatlas.data.batches import Shard
from convatlas.data.dataset import UnusableImagesError
from convatlas.data.stream import Stream
from convatlas.errors import UserError
from convatlas.images import Preprocessing, Resize
from convatlas.recipe import Augmentation

SIDE = 4
NO_IMAGE = b"<!DOCTYPE html><p>404"


def encoded(number: int) -> bytes:
    """An image whose color is its number."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


def numbers(images: npt.NDArray[np.uint8]) -> list[int]:
    return (images[:, 0, 0, 0] + 256 * images[:, 1, 0, 0].astype(np.int64)).tolist()


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
    return Stream(source, b"here", np.arange(sum(num)), Resize(SIDE)), source


def batches(of: Stream, shard: Shard, *, augmented: bool = False) -> Batches:
    return Batches(
        Split(of, np.arange(len(of)) % 3),
        Preprocessing(resize=SIDE, crop=SIDE, channels=3, mean=(0.4,) * 3, std=(0.2,) * 3),
        num_classes=3,
        batch_size=8,
        device=torch.device("cpu"),
        seed=5,
        augmentation=Augmentation(shift=0.25, flip=True, mixup=0.5, lighting=0.1) if augmented else None,
        shard=shard,
    )


SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any)


@given(sizes=SIZES, buffer=st.integers(1, 40), seed=st.integers(0, 9), cut=st.integers(1, 11))
def test_any_order_of_its_own_is_one_walk_that_holds_no_more_than_the_buffer(
    sizes: list[int], buffer: int, seed: int, cut: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "BUFFER", buffer)
        images, source = streamed(*sizes)
        most = 0
        kept = stream._Walk.example

        def example(walk: stream._Walk, place: int) -> stream.Example:
            nonlocal most
            found = kept(walk, place)
            most = max(most, len(walk.held))
            return found

        patch.setattr(stream._Walk, "example", example)
        order = images.order(seed)
        assert sorted(order.tolist()) == list(range(sum(sizes)))
        assert order.tolist() == images.order(seed).tolist()
        parts = np.split(order, range(cut, len(order), cut))
        assert [numbers(part) for part in images.read(parts)] == [part.tolist() for part in parts]
        assert sorted(source.read_shards) == [i for i, size in enumerate(sizes) if size]
        assert sorted(source.opened) == sorted(order.tolist())
        assert most <= buffer + max(sizes) * stream.INTERLEAVED


def test_another_seed_is_another_order() -> None:
    for num in (50, stream.BUFFER + 50):
        images, _ = streamed(num)
        orders = [images.order(seed).tolist() for seed in range(4)]
        assert all(one != other for i, one in enumerate(orders) for other in orders[:i])
        # As of a set in memory: no neighbors stay neighbors but by chance.
        assert sum(b - a == 1 for a, b in zip(orders[0], orders[0][1:], strict=False)) < 10


def test_a_set_sorted_by_class_in_many_shards_is_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER", 400)
    images, _ = streamed(*[50] * 100)
    # Ten classes, one after another.
    seen = images.order(1).reshape(-1, 500) // 500
    assert min(len(np.unique(part)) for part in seen) >= 7


def test_images_that_are_a_shard_each_are_shuffled_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER", 20)
    images, _ = streamed(*[1] * 2000)
    # Of each fifth of the epoch about a fifth from each fifth of the set.
    seen = images.order(1).reshape(5, 400) // 400
    counts = np.array([np.bincount(part, minlength=5) for part in seen])
    assert counts.min() > 50


@pytest.mark.parametrize("augmented", [False, True])
def test_any_number_of_processes_sees_the_same_batches(augmented: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER", 20)
    images, _ = streamed(9, 30, 4, 17)
    images = images.sampled(0)
    alone = list(batches(images, Shard(), augmented=augmented).epoch(2))
    for of in (2, 3):
        ours = [list(batches(images, Shard(rank, of), augmented=augmented).epoch(2)) for rank in range(of)]
        # What is left at the end joins the batch before where it is too little for that many.
        for whole, *shares in list(zip(alone, *ours, strict=False))[:-1]:
            assert torch.equal(torch.cat([shard.indices for shard in shares]), whole.indices)
            if not augmented:
                assert torch.equal(torch.cat([shard.inputs for shard in shares]), whole.inputs)
        assert torch.equal(
            torch.cat([batch.indices for step in zip(*ours, strict=True) for batch in step]),
            torch.cat([batch.indices for batch in alone]),
        )


def test_an_epoch_from_a_step_on_is_its_tail_and_decodes_nothing_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER", 20)
    images, source = streamed(9, 30, 4, 17)
    images = images.sampled(0)
    whole = list(batches(images, Shard(), augmented=True).epoch(1))
    for start in range(len(whole)):
        source.opened.clear()
        tail = list(batches(images, Shard(), augmented=True).epoch(1, start))
        assert len(tail) == len(whole) - start
        for one, other in zip(tail, whole[start:], strict=True):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.targets, other.targets)
            assert torch.equal(one.indices, other.indices)
        assert sorted(source.opened) == sorted(i for batch in tail for i in batch.indices.tolist())


def test_a_share_decodes_no_image_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    images, source = streamed(9, 30, 4, 17)
    own = [i for batch in batches(images, Shard(1, 3)).epoch(0) for i in batch.indices.tolist()]
    assert sorted(source.opened) == sorted(own)
    assert len(own) == pytest.approx(60 / 3, abs=8)


@pytest.mark.parametrize("of", [1, 2, 3])
def test_evaluation_sees_every_image_once_in_one_walk(of: int) -> None:
    seen: list[int] = []
    for rank in range(of):
        images, source = streamed(9, 30, 4, 17)
        own = batches(images, Shard(rank, of))
        seen += [i for step in range(len(own)) for i in own.in_order(step).indices.tolist()]
        assert len(source.read_shards) == len(set(source.read_shards))
    assert sorted(seen) == list(range(60))


def test_images_are_found_in_any_order_and_again() -> None:
    images, _ = streamed(5, 5)
    for wanted in ([3, 9, 0], [9], [0, 0, 4], []):
        assert numbers(images[np.array(wanted, np.int64)]) == wanted
    assert numbers(images[2:8:2]) == [2, 4, 6]
    assert numbers(images[np.arange(10) > 6]) == [7, 8, 9]


def test_a_part_is_a_stream_of_its_own() -> None:
    images, _ = streamed(5, 5, 5)
    split = Split(images, np.arange(15) % 3)
    rest, held_out = split.stratified_split(0.2, np.random.default_rng(0))
    assert isinstance(held_out.images, Stream)
    assert sorted(numbers(rest.images[:]) + numbers(held_out.images[:])) == list(range(15))
    assert [number % 3 for number in numbers(held_out.images[:])] == held_out.labels.tolist()
    order = rest.images.order(3)
    [read] = rest.images.read([order])
    assert numbers(read) == np.array(numbers(rest.images[:]))[order].tolist()
    assert rest.checksum != split.checksum == Split(images, split.labels).checksum


def test_it_is_gray_if_its_sample_is() -> None:
    grays = [io.BytesIO() for _ in range(6)]
    for i, file in enumerate(grays):
        Image.new("L", (SIDE, SIDE), 40 * i).save(file, "PNG")
    gray, _ = streamed(6, odd={i: file.getvalue() for i, file in enumerate(grays)})
    gray = gray.sampled(0)
    assert gray.shape == (6, 1, SIDE, SIDE)
    assert sorted(gray.sample()[:, 0, 0, 0].tolist()) == [0, 40, 80, 120, 160, 200]
    mixed, _ = streamed(6, odd={2: grays[2].getvalue()})
    assert mixed.sampled(0).shape == (6, 3, SIDE, SIDE)


def test_the_sample_is_of_many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "NUM_SAMPLED", 20)
    images, _ = streamed(*[50] * 20)
    found = numbers(images.sampled(3).sample())
    assert len(found) == 20
    assert len({number // 50 for number in found}) == stream.INTERLEAVED
    assert found == numbers(images.sampled(3).sample()) != numbers(images.sampled(4).sample())


def test_a_damaged_image_stops_with_its_name_and_the_good_ones_are_known() -> None:
    images, _ = streamed(5, 5, odd={3: NO_IMAGE, 8: encoded(8)[:-25]})
    with pytest.raises(UnusableImagesError, match=r"^there/3: not an image of a known format") as caught:
        images[:]
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="there/8: damaged or cut short"):
        list(images.read([np.array([9, 8])]))
    with pytest.raises(UserError, match="there/"):
        list(batches(images, Shard()).epoch(0))
    good, errors = images.usable()
    assert good.tolist() == [0, 1, 2, 4, 5, 6, 7, 9]
    assert [str(error.path) for error in errors] == ["there/3", "there/8"]
    assert numbers(images.take(good)[:]) == good.tolist()


def test_a_source_that_became_shorter_is_noticed() -> None:
    images, source = streamed(5, 5)
    source.missing = 1
    with pytest.raises(UserError, match="fewer images than when it was opened"):
        images[:]
