"""Imagenette in three folds: every image is tested once, by networks that were trained on the two other thirds."""

from __future__ import annotations

import shutil
from pathlib import Path

from convatlas.errors import UserError
from convatlas.files import cache_folder

NAME = "imagenette"
URL = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz"
SUFFIXES = (".jpeg", ".jpg")
CLASSES = (
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
    "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
)  # fmt: skip
"""Imagenette's WordNet ids: its siblings, as Imagewoof, have ten others."""
IMAGES_A_CLASS = 130
"""Evenly spaced among those that a class has: the whole set has a thousand, and would take a day."""
NUM_FOLDS = 3


def fold(runs: Path, seed: int) -> Path:
    """The data set whose test images are one third; `make_folds` makes it.

    Args:
        runs: the folder of runs.
        seed: with more seeds than folds, the folds come again.
    """
    return runs / f"{NAME}-fold-{seed % NUM_FOLDS}"


def make_folds(runs: Path) -> None:
    """Make all folds anew, of links to the images in the cache folder; where the system has no links, of copies.

    Raises:
        UserError: the images are not there; the message says how to get them.
    """
    classes = images_by_class(cache_folder() / NAME)
    for number in range(NUM_FOLDS):
        folder = fold(runs, number)
        # What an interrupted call left, or one that saw other images.
        if folder.exists():
            shutil.rmtree(folder)
        for name, images in classes.items():
            for split in ("train", "test"):
                (folder / split / name).mkdir(parents=True)
            for rank, image in enumerate(images):
                split = "test" if rank % NUM_FOLDS == number else "train"
                link_or_copy(image, folder / split / name / f"{rank:03}{image.suffix}")


def images_by_class(folder: Path) -> dict[str, list[Path]]:
    """The images of each class, in the order of their names, whatever folder above that of the class they are in.

    Raises:
        UserError: see `make_folds`.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*"), key=lambda path: (path.name, path)):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.parent.name, []).append(path)
    if tuple(sorted(found)) != CLASSES or min(map(len, found.values())) < NUM_FOLDS:
        raise UserError(
            f"Imagenette, on which the resolution multiplier is tested, is not in {folder}; this gets it:  "
            f"mkdir -p {folder} && curl -L {URL} | tar xz -C {folder}"
        )
    return {name: evenly(found[name], IMAGES_A_CLASS) for name in sorted(found)}


def evenly(images: list[Path], num: int) -> list[Path]:
    """So many of the images, evenly spaced; all of them, if there are no more."""
    num = min(num, len(images))
    return [images[i * len(images) // num] for i in range(num)]


def link_or_copy(image: Path, place: Path) -> None:
    try:
        place.symlink_to(image.resolve())
    except OSError:
        shutil.copyfile(image, place)
