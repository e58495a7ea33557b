"""The checksums that earlier versions wrote are those of the same images today; they were taken with those versions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Dataset, Split
from convatlas.data.digits import Digits
from convatlas.data.earlier import decoding_in, is_earlier, sorted_as_earlier
from convatlas.data.folder import Folder
from convatlas.data.images import Decoding
from convatlas.data.stream import Example, Stream
from convatlas.images import Interpolation, Resize, ResizeMode

IMAGES = Path(__file__).parents[1] / "formats" / "images"
CLASSES = ("disk", "square")
PLAIN, SQUASHED = Resize(28), Resize(28, ResizeMode.SQUASH, Interpolation.BICUBIC)
OF_FOLDER = [
    (PLAIN, Decoding.APPROXIMATE, "8e1ecc8fc8cc16e79c7f992b7eeb481fba7b0178d2d6fa8c4ac7ba7ae07c9ecd"),
    (PLAIN, Decoding.JPEG, "408d24ecf2f3cb8d8c0d8201d84f9d01e811c444a703c3ac177be5e743558836"),
    (SQUASHED, Decoding.APPROXIMATE, "61127f2ed15a195c07e9f1f435167af0707d9d6c2fc1004dd39853653c73acfb"),
    (SQUASHED, Decoding.JPEG, "91a70a24dfc7b0713cd399db4786596765e2e4c8b41e7cfac7070547025ba858"),
]
OF_FORMAT_1 = "c21818c9e00cad79079b429a8f7e3f9c6aba7f76ea774ae1835c6f6aa47a223a"
OF_DIGITS = {
    Resize(8): "d6fee08751acc1bc95c766bb67b544f164c4bcca300abd092ff2a8916c73ca8f",
    PLAIN: "b5692a8deb965b4480d364ee2b2028c76471040510880ded24d0b2566f5a283c",
    SQUASHED: "0d0f5edce027b7d6a111e8e2668385d5ef08bc5117603a0519372944a4a9379d",
}


@pytest.fixture(params=["1GB", "40KB"], ids=["raw", "jpeg"])
def room(request: pytest.FixtureRequest, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the cache: for pixels, or for JPEG only."""
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", request.param)
    return str(request.param)


@pytest.mark.parametrize(("resize", "decoding", "checksum"), OF_FOLDER)
def test_a_folder_is_the_same_however_the_cache_held_it_and_holds_it(
    resize: Resize, decoding: Decoding, checksum: str, room: str
) -> None:
    images = Folder(IMAGES).load(resize, seed=1)
    assert images.train.reader.decoding is (Decoding.EXACT if room == "1GB" else Decoding.JPEG)
    assert decoding_in(checksum, images, resize, CLASSES) is decoding


def test_the_pixels_of_format_1_are_those_of_the_files(room: str) -> None:
    assert decoding_in(OF_FORMAT_1, Folder(IMAGES).load(28), PLAIN, CLASSES) is Decoding.EXACT


@pytest.mark.parametrize("resize", OF_DIGITS, ids=str)
def test_a_standard_set_is_the_same(resize: Resize) -> None:
    digits = Digits().load(resize)
    assert decoding_in(OF_DIGITS[resize], digits, resize, digits.classes) is Decoding.EXACT
    assert decoding_in(OF_DIGITS[resize].upper(), digits, resize, digits.classes) is None


class NoShards:
    """A stream is known by where it comes from, of which nothing is read."""

    sizes = np.array([6], np.int64)

    def read(self, shard: int) -> Iterator[Example]:
        raise AssertionError(shard)


def test_a_stream_is_the_same() -> None:
    def part(origin: bytes, num: int) -> Split:
        return Split(Stream(NoShards(), origin, np.arange(num), PLAIN), np.arange(num) % 2)

    images = Dataset(name="hf:set", classes=("a", "b"), train=part(b"here", 6), test=part(b"there", 4))
    checksum = "2c1c516a3e1776bb1ebb3d14118295cd5cabc3b99391d9eba7fc4c7d68f35665"
    assert decoding_in(checksum, images, PLAIN, images.classes) is Decoding.APPROXIMATE
    assert decoding_in(checksum, replace(images, test=part(b"here", 4)), PLAIN, images.classes) is None


def changed(root: Path) -> Dataset:
    shutil.copytree(IMAGES, root)
    Image.new("RGB", (20, 20)).save(root / "disk" / "4.png")
    return Folder(root).load(28, seed=1)


def test_another_image_seed_size_or_class_is_other_data(tmp_path: Path, decoded_cache: Path) -> None:
    same = Folder(IMAGES).load(28, seed=1)
    for resize, _, checksum in OF_FOLDER[:2]:
        others = (changed(tmp_path / checksum), Folder(IMAGES).load(28, seed=2))
        assert [decoding_in(checksum, other, resize, CLASSES) for other in others] == [None, None]
        assert decoding_in(checksum, same, SQUASHED, CLASSES) is None
        assert decoding_in(checksum, same, resize, ("disk", "cube")) is None
        assert decoding_in(checksum, same, resize, CLASSES[::-1]) is None


def test_today_s_checksums_are_told_from_earlier_ones(decoded_cache: Path) -> None:
    images = Folder(IMAGES).load(28, seed=1)
    assert not is_earlier(images.checksum)
    assert is_earlier(OF_FORMAT_1)
    # The digits alone are no checksum of earlier versions.
    assert decoding_in(images.checksum.partition(":")[2], images, PLAIN, CLASSES) is None


def test_classes_and_images_are_in_the_order_that_drew_the_split(tmp_path: Path, decoded_cache: Path) -> None:
    """As files are named on a Mac: in Unicode's decomposed form, which sorts otherwise."""
    classes = (normalize("NFD", "école"), "zoo")
    for source, name in zip(CLASSES, classes, strict=True):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for number, path in enumerate(sorted((IMAGES / source).iterdir())):
            shutil.copy(path, tmp_path / "tree" / name / normalize("NFD", f"{'éf'[number % 2]}{number}.png"))
    source = Folder(tmp_path / "tree")
    images = sorted_as_earlier(source).load(28, seed=1)
    assert images.test.labels.tolist() == [0, 0, 1, 1]
    assert [normalize("NFC", name) for name in images.test.names] == [
        "école/é8.png",
        "école/f7.png",
        "zoo/é0.png",
        "zoo/é2.png",
    ]
    checksum = "a67dae205c1e5ca8f5c36f3230ad508bec8afe01612a18349739a9f0be74a8f4"
    assert decoding_in(checksum, images, PLAIN, classes) is Decoding.APPROXIMATE
    # Today's order is another.
    today = source.load(28, seed=1)
    assert not np.array_equal(today.test.images[:], images.test.images[:])
    assert sorted_as_earlier(Digits()) == Digits()
