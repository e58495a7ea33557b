"""Images that are not those of a model's training are refused in one line, which says what differs if it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from convatlas.data import Dataset, Split
from convatlas.errors import UserError
from convatlas.models.card import Card
from convatlas.models.folder import read_card
from convatlas.models.training_data import difference, load_training_data

FORMATS = Path(__file__).parents[1] / "formats"
CARD = read_card(FORMATS / "format-3-folder")
"""Of two classes, with 4 test images."""
TODAY = replace(CARD, provenance=replace(CARD.provenance, data_checksum="contents:" + "0" * 64))


def dataset(classes: Sequence[str] = CARD.classes, train: int = 16, test: int = 4, *, files: bool = True) -> Dataset:
    def split(num: int) -> Split:
        return Split(
            np.zeros((num, 3, 28, 28), np.uint8), np.arange(num) % 2, tuple(map(str, range(num))) if files else ()
        )

    return Dataset(name="images", classes=tuple(classes), train=split(train), test=split(test))


@pytest.mark.parametrize(
    ("card", "found", "words"),
    [
        (TODAY, dataset(["disk", "cube", "cone"]), "other classes (missing: square; new: cube, cone)"),
        (TODAY, dataset(["disk", "square", "ring"]), "other classes (new: ring)"),
        (TODAY, dataset([*"abcdefg"]), "other classes (missing: disk, square; new: a, b, c, d, e and 2 others)"),
        (TODAY, dataset(["square", "disk"]), "the same classes in another order"),
        (TODAY, dataset(train=15), "15 training images, and not 16"),
        (TODAY, dataset(train=1600, test=3), "1,600 training images, and not 16, 3 test images, and not 4"),
        (TODAY, dataset(), "the same classes, but other images, or their names put them in another order"),
        (TODAY, dataset(files=False), "the same classes, but other images"),
        (CARD, dataset(files=False), "the same classes, but other images, or another version of Pillow resized them"),
    ],
)  # fmt: skip
def test_what_differs_is_said_where_it_is_known(card: Card, found: Dataset, words: str) -> None:
    assert difference(card, 16, found) == words


def test_numbers_that_are_not_known_are_not_said() -> None:
    unfinished = replace(TODAY, score=None)
    assert "other images" in difference(unfinished, None, dataset(train=5, test=50))
    assert difference(TODAY, None, dataset(train=5, test=5)) == "5 test images, and not 4"


def test_the_spelling_of_accents_is_no_difference() -> None:
    card = replace(TODAY, classes=(normalize("NFD", "é"), "square"))
    assert "other images" in difference(card, 16, dataset([normalize("NFC", "é"), "square"]))


def test_todays_checksum_is_never_held_against_an_earlier_one(decoded_cache: Path) -> None:
    """The digits of either with or without the word before them are another data set's."""
    images, before = FORMATS / "images", CARD.provenance.data_checksum
    found = load_training_data(images, CARD, "it")
    for checksum in (f"contents:{before}", found.checksum.removeprefix("contents:"), found.checksum.upper(), ""):
        card = replace(CARD, provenance=replace(CARD.provenance, data_checksum=checksum))
        with pytest.raises(UserError, match="are not, or no longer, those that it was trained on"):
            load_training_data(images, card, "it")
    card = replace(CARD, provenance=replace(CARD.provenance, data_checksum=found.checksum))
    assert load_training_data(images, card, "it").checksum == found.checksum
