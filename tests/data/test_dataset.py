"""What a data set is known by: the contents of its files, its labels and its classes, and nothing of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convatlas.data import Dataset, Split
from convatlas.data.digits import Digits
from convatlas.data.folder import Folder
from convatlas.data.images import Decoding, ResizedImages
from convatlas.files.decoded_cache import EntryKind, entries
from convatlas.images import Interpolation, Resize, ResizeMode

RANDOM = np.random.default_rng(0)
RESIZES = st.builds(Resize, st.integers(4, 40), st.sampled_from(ResizeMode), st.sampled_from(Interpolation))
NUM = 12
"""Images of each class."""


@pytest.fixture
def animals(tmp_path: Path, write_images: Callable, decoded_cache: Path) -> Path:
    """Twelve images of noise in each of two classes, and an empty cache."""
    noise = RANDOM.integers(0, 256, (2 * NUM, 48, 48, 3), dtype=np.uint8)
    images = [Image.fromarray(image) for image in noise]
    return write_images(tmp_path / "animals", {"cat": images[:NUM], "dog": images[NUM:]})


# What it does not depend on


def test_the_room_in_the_cache_is_no_part_of_the_data(
    animals: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for kind, limit in ((EntryKind.RAW, "1GB"), (EntryKind.JPEG, "150K")):
        monkeypatch.setenv("CONVATLAS_CACHE", str(decoded_cache / kind))
        monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", limit)
        found.append(Folder(animals).load(48))
        assert [entry.kind for entry in entries(decoded_cache / kind)] == [kind]
    raw, jpeg = found
    assert not np.array_equal(raw.train.images[:], jpeg.train.images[:])
    assert raw.checksum == jpeg.checksum
    assert (raw.train.reader.decoding, jpeg.train.reader.decoding) == (Decoding.EXACT, Decoding.JPEG)
    # Evaluation sees the same of both.
    assert np.array_equal(raw.test.images[:], jpeg.test.images[:])
    assert jpeg.test.reader.decoding is Decoding.EXACT


@pytest.mark.parametrize(
    "resize", [Resize(7), Resize(60), Resize(16, ResizeMode.SQUASH, Interpolation.LANCZOS)], ids=str
)
def test_the_size_is_no_part_of_the_data(animals: Path, resize: Resize) -> None:
    assert Folder(animals).load(resize).checksum == Folder(animals).load(48).checksum


@settings(max_examples=10)
@given(resize=RESIZES)
def test_resized_images_are_known_by_the_published_ones(resize: Resize) -> None:
    published = Digits().load(8)
    assert Digits().load(resize).checksum == published.checksum
    part = np.array([5, 3])
    assert Digits().load(resize).test.take(part).checksum == published.test.take(part).checksum


def test_approximately_decoded_images_are_known_by_their_files(tmp_path: Path, decoded_cache: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            coarse = RANDOM.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((300, 260)).save(tmp_path / "photos" / name / f"{number}.jpg")
    small, whole = (Folder(tmp_path / "photos").load(side) for side in (16, 260))
    assert (small.train.reader.decoding, whole.train.reader.decoding) == (Decoding.APPROXIMATE, Decoding.EXACT)
    assert small.checksum == whole.checksum


def test_the_place_and_the_times_of_the_files_are_no_part_of_the_data(animals: Path) -> None:
    before = Folder(animals).load(8).checksum
    moved = animals.parent / "elsewhere" / "beasts"
    moved.parent.mkdir()
    animals.rename(moved)
    assert Folder(moved).load(8).checksum == before
    shutil.copytree(moved, animals, copy_function=shutil.copyfile)
    for path in animals.rglob("*.png"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert Folder(animals).load(8).checksum == before


@given(data=st.data())
def test_the_order_in_which_files_were_written_is_no_part_of_the_data(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = ["a/B.png", "a/b.png", "a/Z.png", "a/a/x.png", "a/a.png", "A/é.png", "A/f.png", "A/10.png", "A/9.png"]
    images = {name: Image.new("L", (4, 4), 20 * number) for number, name in enumerate(names)}
    checksums = []
    for order in (names, data.draw(st.permutations(names))):
        root = tmp_path_factory.mktemp("written")
        for name in order:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            images[name].save(root / name)
        checksums.append(Folder(root).load(4).checksum)
    assert checksums[0] == checksums[1]


@pytest.mark.parametrize("seed", range(3))
def test_how_the_file_system_spells_accents_is_no_part_of_the_data(seed: int, tmp_path: Path) -> None:
    """The same names in Unicode's composed and decomposed form sort otherwise."""
    loaded = {}
    for form in ("NFC", "NFD"):
        for name in ("école", "zoo", "forêt"):
            folder = tmp_path / form / normalize(form, name)
            folder.mkdir(parents=True)
            for number in range(10):
                image = Image.new("L", (4, 4), 20 * number + len(name))
                image.save(folder / normalize(form, f"{'éfê'[number % 3]}{number}.png"))
        loaded[form] = Folder(tmp_path / form).load(4, seed=seed)
    assert loaded["NFC"].checksum == loaded["NFD"].checksum
    for part in ("train", "test"):
        one, other = (getattr(loaded[form], part) for form in ("NFC", "NFD"))
        assert np.array_equal(one.images[:], other.images[:])
        assert np.array_equal(one.labels, other.labels)


# What it depends on


def test_another_image_label_class_or_split_is_other_data(animals: Path) -> None:
    checksums = [Folder(animals).load(8).checksum]
    checksums.append(Folder(animals).load(8, seed=1).checksum)
    Image.new("RGB", (48, 48)).save(animals / "cat" / "003.png")
    checksums.append(Folder(animals).load(8).checksum)
    (animals / "cat" / "003.png").rename(animals / "dog" / "0030.png")
    checksums.append(Folder(animals).load(8).checksum)
    (animals / "cat").rename(animals / "cats")
    checksums.append(Folder(animals).load(8).checksum)
    assert len(set(checksums)) == 5


def test_every_pixel_of_a_standard_set_counts() -> None:
    """Even one that resizing loses."""
    digits = Digits().load(8)
    images = digits.test.images[:].copy()
    images[7, 0, 0, 0] ^= 1
    other = replace(digits, test=Split(images, digits.test.labels).resized(Resize(1)))
    same = replace(digits, test=Split(digits.test.images, digits.test.labels).resized(Resize(1)))
    assert np.array_equal(other.test.images, same.test.images)
    assert same.checksum == digits.checksum != other.checksum


def test_the_shape_of_images_counts() -> None:
    labels = np.array([0, 1])
    shapes = ((2, 1, 2, 8), (2, 1, 8, 2), (2, 1, 4, 4))
    assert len({Split(np.zeros(shape, np.uint8), labels).checksum for shape in shapes}) == 3


def test_names_of_classes_are_told_apart() -> None:
    split = Split(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]))

    def checksum(*classes: str) -> str:
        return Dataset(name="d", classes=classes, train=split, test=split).checksum

    assert checksum("a\nb", "c") != checksum("a", "b\nc")
    # Names that are no text.
    assert checksum("a", "\udcff") != checksum("a", "\udcfe")


def test_images_that_do_not_fit_into_memory_are_resized_when_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = Digits().load(8).train
    in_memory = train.resized(Resize(20))
    monkeypatch.setattr("convatlas.data.dataset.MAX_RESIZED", 100)
    lazy = train.resized(Resize(20))
    assert isinstance(lazy.images, ResizedImages)
    assert lazy.checksum == in_memory.checksum
    assert lazy.pixel_checksum == in_memory.pixel_checksum
    places = np.array([5, 3, 1000])
    assert (lazy.take(places).images[:] == in_memory.images[places]).all()


@pytest.mark.slow
def test_reading_all_of_huge_images_takes_few_at_a_time() -> None:
    huge = ResizedImages(np.zeros((5, 1, 2, 2), np.uint8), Resize(2**14))
    assert next(iter(huge.chunks())).shape == (1, 1, 2**14, 2**14)
