"""What is evaluated on is exact: what prediction sees of the same file, to the bit, whatever training sees."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from convatlas.data import Batches, Dataset, Split
from convatlas.data.folder import Folder
from convatlas.data.folder_images import FileImages, FolderImages
from convatlas.errors import UserError
from convatlas.files.decoded_cache import EntryKind, clear, entries
from convatlas.images import (
    ChannelOrder,
    Interpolation,
    Preprocessing,
    Resize,
    ResizeMode,
    decode,
    decode_draft,
    opened,
)

SIDE = 32
RANDOM = np.random.default_rng(0)
MIB = 2**20


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, channels), dtype=np.uint8).squeeze())


@pytest.fixture
def photographs(tmp_path: Path, decoded_cache: Path) -> Path:
    """Ten large JPEGs of each of two classes, and an empty cache."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            noise(200 + i, 160).save(tmp_path / "photos" / name / f"{i}.jpg")
    return tmp_path / "photos"


def exact(path: Path, resize: Resize, channels: int = 3) -> npt.NDArray[np.uint8]:
    return resize.square(decode(path), channels)


def approximated(path: Path, resize: Resize, channels: int = 3) -> npt.NDArray[np.uint8]:
    with opened(path) as file:
        return resize.square(decode_draft(file, path, resize.side)[0], channels, approximate=True)


def is_exact(split: Split, folder: Path, resize: Resize) -> bool:
    channels = split.images.shape[1]
    return all(
        np.array_equal(image, exact(folder / name, resize, channels))
        for name, image in zip(split.names, split.images[:], strict=True)
    )


# Exact


@pytest.mark.parametrize("mode", ResizeMode)
@pytest.mark.parametrize("interpolation", [Interpolation.BILINEAR, Interpolation.BICUBIC])
def test_test_images_are_exact_and_training_images_are_as_fast_decoding_gives_them(
    photographs: Path, mode: ResizeMode, interpolation: Interpolation
) -> None:
    resize = Resize(SIDE, mode, interpolation)
    for _ in range(2):
        images = Folder(photographs).load(resize)
        assert is_exact(images.test, photographs, resize)
        for name, image in zip(images.train.names, images.train.images[:], strict=True):
            assert np.array_equal(image, approximated(photographs / name, resize))
    assert not is_exact(images.train, photographs, resize)
    assert is_exact(images.train.exact(), photographs, resize)


def test_a_split_that_is_given_is_tested_exactly(photographs: Path) -> None:
    root = photographs.parent / "split"
    for name in ("train", "test"):
        root.mkdir(exist_ok=True)
        (root / name).symlink_to(photographs)
    images = Folder(root).load(SIDE)
    assert is_exact(images.test, root, Resize(SIDE))
    assert not is_exact(images.train, root, Resize(SIDE))


def test_gray_images_are_exact_too(tmp_path: Path, decoded_cache: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(5):
            noise(200, 160, 1).save(tmp_path / "photos" / name / f"{i}.jpg")
    images = Folder(tmp_path / "photos").load(SIDE)
    assert images.test.images.shape[1:] == (1, SIDE, SIDE)
    assert is_exact(images.test, tmp_path / "photos", Resize(SIDE))


def test_a_gray_test_image_of_a_set_in_color_has_three_channels(photographs: Path) -> None:
    for path in photographs.rglob("*.jpg"):
        if path.parent.name == "cat":
            Image.open(path).convert("L").save(path)
    images = Folder(photographs).load(SIDE)
    assert images.test.images.shape[1:] == (3, SIDE, SIDE)
    assert is_exact(images.test, photographs, Resize(SIDE))


def test_the_checksum_is_of_the_files_and_not_of_how_exactly_they_are_decoded(photographs: Path) -> None:
    images = Folder(photographs).load(SIDE)
    assert images.train.exact().checksum == images.train.checksum
    part = np.array([3, 1])
    assert images.test.take(part).checksum != images.test.checksum


def test_parts_of_exact_images_are_exact(photographs: Path) -> None:
    images = Folder(photographs).load(SIDE)
    drawn, rest = images.train.stratified_split(0.3, np.random.default_rng(0))
    for split in (images.test.take(np.array([3, 0])), drawn.exact(), rest.exact().exact()):
        assert is_exact(split, photographs, Resize(SIDE))


PREPROCESSINGS = {
    "crop": Preprocessing(resize=36, crop=32, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    "odd margin": Preprocessing(resize=35, crop=32, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    "published": Preprocessing(
        resize=40, crop=32, channels=3, mean=(103.9, 116.8, 123.7), std=(1.0, 1.0, 1.0), value_range=255.0,
        mode=ResizeMode.SQUASH, interpolation=Interpolation.BICUBIC, channel_order=ChannelOrder.BGR,
    ),
    "letterbox": Preprocessing(
        resize=32, crop=32, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, mode=ResizeMode.LETTERBOX,
        interpolation=Interpolation.LANCZOS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PREPROCESSINGS)
@pytest.mark.parametrize("limit", ["1GiB", "40KiB"], ids=["cached", "from files"])
def test_evaluation_and_prediction_see_the_same_to_the_bit(
    name: str, limit: str, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessing = PREPROCESSINGS[name]
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", limit)
    test = Folder(photographs).load(preprocessing.resizing).test
    batches = Batches(test, preprocessing, num_classes=2, batch_size=3, device=torch.device("cpu"))
    for step in range(len(batches)):
        batch = batches.in_order(step)
        for index, inputs in zip(batch.indices.tolist(), batch.inputs.numpy(), strict=True):
            assert np.array_equal(preprocessing.prepare(photographs / test.names[index]), inputs)


# Where exact images lie


def test_small_images_are_cached_once(tmp_path: Path, write_images: Callable, decoded_cache: Path) -> None:
    folder = write_images(tmp_path / "f", {name: [noise(40, 40) for _ in range(5)] for name in ("a", "b")})
    images = Folder(folder).load(SIDE)
    assert is_exact(images.train, folder, Resize(SIDE))
    assert is_exact(images.test, folder, Resize(SIDE))
    assert len(entries(decoded_cache)) == 1


def test_test_images_are_decoded_once_for_each_seed(
    photographs: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, num in ((0, 2), (0, 2), (1, 3), (0, 3)):
        images = Folder(photographs).load(SIDE, seed=seed)
        assert isinstance(images.test.images, FolderImages)
        found = sorted((entry.num_images, entry.kind) for entry in entries(decoded_cache))
        assert found == [(4, EntryKind.EXACT)] * (num - 1) + [(20, EntryKind.RAW)]
    # Nothing is decoded again.
    written = {path: path.stat().st_mtime_ns for path in decoded_cache.glob("*/images")}
    assert is_exact(Folder(photographs).load(SIDE).test, photographs, Resize(SIDE))
    assert {path: path.stat().st_mtime_ns for path in decoded_cache.glob("*/images")} == written


def test_a_set_kept_as_jpeg_is_tested_on_its_files(
    photographs: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "50KiB")
    images = Folder(photographs).load(SIDE)
    (entry,) = entries(decoded_cache)
    assert entry.kind is EntryKind.JPEG
    assert isinstance(images.test.images, FileImages)
    assert is_exact(images.test, photographs, Resize(SIDE))
    assert isinstance(images.train.exact().images, FileImages)
    assert is_exact(images.train.exact(), photographs, Resize(SIDE))


def test_training_images_stay_where_exact_ones_have_no_room(
    photographs: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twenty images of 3 KiB, and four.
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "66KiB")
    for _ in range(2):
        images = Folder(photographs).load(SIDE)
        (entry,) = entries(decoded_cache)
        assert (entry.kind, entry.num_images) == (EntryKind.RAW, 20)
        assert isinstance(images.test.images, FileImages)
        assert is_exact(images.test, photographs, Resize(SIDE))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_may_only_be_read_is_enough(photographs: Path, decoded_cache: Path) -> None:
    Folder(photographs).load(SIDE, seed=0)
    decoded_cache.chmod(0o500)
    try:
        images = Folder(photographs).load(SIDE, seed=1)
    finally:
        decoded_cache.chmod(0o700)
    assert isinstance(images.test.images, FileImages)


def test_a_cache_without_room_on_the_disk_is_enough(
    photographs: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    images = Folder(photographs).load(SIDE).train
    monkeypatch.setattr("convatlas.data.entry_writer.EntryWriter.add", full)
    assert isinstance(images.exact().images, FileImages)
    assert is_exact(images.exact(), photographs, Resize(SIDE))
    # Nothing is left of it.
    assert len(list(decoded_cache.glob("*.decoded"))) == 2


def test_a_file_that_changes_is_noticed(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "50KiB")
    test = Folder(photographs).load(SIDE).test
    path = photographs / test.names[2]
    noise(200, 160).save(path)
    with pytest.raises(UserError, match=rf"{path.name} changed while it was decoded"):
        test.images[:]
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name}: there is no such file"):
        test.images[:]
    assert len(test.images[:2]) == 2


def test_images_from_files_are_taken_as_from_an_array(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "50KiB")
    images = Folder(photographs).load(SIDE).test.images
    everything = images[:]
    assert images.shape == everything.shape == (4, 3, SIDE, SIDE)
    for indices in (slice(1, 4, 2), np.array([3, 0, 3]), np.arange(4) > 1, np.array([], np.int64)):
        assert np.array_equal(images[indices], everything[indices])


def test_what_an_older_version_decoded_is_never_read_and_removed_like_any(
    photographs: Path, decoded_cache: Path
) -> None:
    old = decoded_cache / "0123456789abcdef.decoded"
    old.mkdir(parents=True)
    (old / "pictures").write_bytes(bytes(3 * SIDE**2))
    index = {"source": str(photographs), "kind": "raw", "side": SIDE, "channels": 3, "contents": ["aa"], "ends": [3072]}
    (old / "index.json").write_text(json.dumps(index | {"unusable": {}}))
    assert [entry.folder for entry in entries(decoded_cache)] == [old]
    assert is_exact(Folder(photographs).load(SIDE).test, photographs, Resize(SIDE))
    assert clear(decoded_cache)[1] == []
    assert list(decoded_cache.iterdir()) == []


# Progress


@dataclass
class Heard:
    titles: list[str] = field(default_factory=list)
    num: int = 0
    ends: int = 0

    def begin(self, title: str, total: int | None, unit: str) -> None:
        self.titles.append(f"{title}: {total} {unit}")

    def advance(self, num: int) -> None:
        self.num += num

    def end(self) -> None:
        self.ends += 1


def test_decoding_tells_its_progress(photographs: Path) -> None:
    heard = Heard()
    images: Dataset = Folder(photographs).load(SIDE, progress=heard)
    assert heard.titles == ["decoding photos: 20 images", "decoding photos for evaluation: 4 images"]
    assert (heard.num, heard.ends) == (24, 2)
    images.train.exact(heard)
    assert heard.titles[2:] == ["decoding photos for evaluation: 16 images"]
    # What is cached takes no time.
    Folder(photographs).load(SIDE, progress=heard)
    assert heard.ends == 3
