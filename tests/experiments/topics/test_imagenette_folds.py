"""Imagenette's folds: every image is tested once, and never by a network that was trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from convatlas import data
from convatlas.errors import UserError
from convatlas.experiments.topics import imagenette_folds
from convatlas.experiments.topics.imagenette_folds import CLASSES, NUM_FOLDS, evenly, fold, make_folds

NUM = {"train": 5, "val": 2}
"""Of each class."""


def add_images(root: Path, classes: Sequence[str] = CLASSES) -> None:
    """Each image is of another gray, by which it is known again."""
    grays = iter(range(256))
    for split, num in NUM.items():
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(num):
                Image.new("RGB", (8, 8), (next(grays),) * 3).save(folder / f"{name}_{split}_{number}.JPEG")


@pytest.fixture
def imagenette(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the images are looked for."""
    monkeypatch.setenv("CONVATLAS_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "imagenette"


def grays(split: data.Split) -> list[int]:
    return [round(float(image.mean())) for image in split.images[:]]


def test_every_image_is_tested_once_and_not_by_who_was_trained_on_it(imagenette: Path, tmp_path: Path) -> None:
    add_images(imagenette)
    make_folds(tmp_path)
    tested = []
    for number in range(NUM_FOLDS):
        found = data.find(fold(tmp_path, number)).load(8, seed=0)
        assert found.classes == tuple(CLASSES)
        assert not set(grays(found.train)) & set(grays(found.test))
        assert len(found.train) + len(found.test) == len(CLASSES) * sum(NUM.values())
        # Seven of a class in three folds: two or three.
        assert set(Counter(found.test.labels.tolist()).values()) <= {2, 3}
        tested += grays(found.test)
    assert sorted(tested) == list(range(len(CLASSES) * sum(NUM.values())))


def test_folds_are_made_anew_of_what_is_there_now(imagenette: Path, tmp_path: Path) -> None:
    add_images(imagenette)
    make_folds(tmp_path)
    stray = fold(tmp_path, 0) / "test" / CLASSES[0] / "stray.jpeg"
    stray.write_bytes(b"of an earlier call")
    make_folds(tmp_path)
    assert not stray.exists()


def test_where_there_are_no_links_images_are_copied(
    imagenette: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    add_images(imagenette)
    make_folds(tmp_path)
    assert len(data.find(fold(tmp_path, 2)).load(8, seed=0).test) == len(CLASSES) * 2


def test_many_images_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Path(str(number)) for number in range(10)]
    assert evenly(images, 4) == [images[0], images[2], images[5], images[7]]
    assert evenly(images, 10) == evenly(images, 99) == images


IMAGEWOOF = [f"n0208{number:04}" for number in range(len(CLASSES))]


@pytest.mark.parametrize("classes", [(), CLASSES[:9], IMAGEWOOF], ids=["none", "nine", "others"])
def test_images_that_are_not_there_are_asked_for(imagenette: Path, tmp_path: Path, classes: Sequence[str]) -> None:
    add_images(imagenette, classes)
    with pytest.raises(UserError, match=r"resolution multiplier .* curl -L https.*\.tgz \| tar xz -C .*imagenette"):
        make_folds(tmp_path)
    assert not fold(tmp_path, 0).exists()


def test_a_fourth_seed_has_the_first_fold() -> None:
    assert fold(Path("runs"), 3) == fold(Path("runs"), 0) == Path("runs") / "imagenette-fold-0"
    assert len({fold(Path("runs"), seed) for seed in range(9)}) == imagenette_folds.NUM_FOLDS
