"""Images in the cache: each is checked when it is first read, and a damaged one is decoded anew from its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import convatlas as ca
from convatlas.data.entry_images import Encoded, Pixels
from convatlas.data.folder import Folder
from convatlas.data.folder_images import FolderImages
from convatlas.errors import UserError
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run
from convatlas.spec import Scale

SIDE = 32
ROOMS = {"pixels": "1GB", "JPEGs": "40KB"}


@pytest.fixture(params=ROOMS)
def images(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    write_images: Callable,
    decoded_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder of soft images, of each class one in gray, for a cache of either kind."""
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", ROOMS[request.param])
    draw = np.random.default_rng(0)

    def soft(*channels: int) -> Image.Image:
        noise = Image.fromarray(draw.integers(0, 256, (6, 6, *channels), dtype=np.uint8))
        return noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC)

    return write_images(tmp_path / "f", {name: [soft(), *(soft(3) for _ in range(9))] for name in ("cat", "dog")})


def read(folder: Path) -> npt.NDArray[np.uint8]:
    return Folder(folder).load(SIDE).train.images[:]


def damage(cache: Path, *, every: bool = False) -> Path:
    """Flip a bit of every image in the cache, or of one."""
    (path,) = cache.glob("*.decoded/images")
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content), 20) if every else [len(content) // 2]:
        content[place] ^= 8
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("every", [False, True], ids=["one", "many"])
def test_what_is_damaged_is_decoded_anew_and_put_back(every: bool, images: Path, decoded_cache: Path) -> None:
    before = read(images)
    (path,) = decoded_cache.glob("*.decoded/images")
    whole = path.read_bytes()
    damage(decoded_cache, every=every)
    assert path.read_bytes() != whole
    assert np.array_equal(read(images), before)
    train = Folder(images).load(SIDE).train.images
    assert isinstance(train, FolderImages)
    # Those of the test too.
    train.entry.images[:]
    assert path.read_bytes() == whole


def test_where_it_cannot_be_put_back_it_is_decoded_anew_each_time(images: Path, decoded_cache: Path) -> None:
    before = read(images)
    path = damage(decoded_cache, every=True)
    train = Folder(images).load(SIDE).train.images
    # What is open stays so, and nothing can be written there.
    path.unlink()
    path.mkdir()
    for _ in range(2):
        assert np.array_equal(train[:], before)


def test_an_image_is_checked_once(images: Path, decoded_cache: Path) -> None:
    train = Folder(images).load(SIDE).train.images
    assert isinstance(train, FolderImages)
    entry = train.entry.images
    assert isinstance(entry, Pixels | Encoded)
    assert not entry.file.is_whole.any()
    entry[np.array([3, 1, 3])]
    assert np.flatnonzero(entry.file.is_whole).tolist() == [1, 3]
    entry[np.arange(len(entry)) < 2]
    assert np.flatnonzero(entry.file.is_whole).tolist() == [0, 1, 3]
    entry[2::2]
    assert entry.file.is_whole[2::2].all()


def test_where_its_file_has_changed_too_it_is_one_line_and_the_next_start_makes_all_anew(
    images: Path, decoded_cache: Path
) -> None:
    train = Folder(images).load(SIDE).train.images
    damage(decoded_cache, every=True)
    for path in images.rglob("*.png"):
        Image.new("RGB", (SIDE, SIDE), 7).save(path)
    with pytest.raises(UserError, match=r"images is damaged, and an image .* has changed; start or resume again"):
        train[:]
    assert list(decoded_cache.glob("*.decoded/index.json")) == []
    assert (read(images) == np.array([7, 0, 0])[:, None, None]).all()


@pytest.mark.usefixtures("one_thread")
def test_training_on_a_damaged_cache_ends_in_the_same_weights(
    images: Path, decoded_cache: Path, tmp_path: Path
) -> None:
    def trained(name: str) -> Run:
        return ca.train(
            "lenet1", images, epochs=2, scale=Scale(resolution=28), runtime=Runtime(autotune=False), out=tmp_path / name
        )

    before = trained("before")
    damage(decoded_cache, every=True)
    assert trained("after").card == before.card
