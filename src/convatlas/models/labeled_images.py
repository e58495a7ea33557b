"""Labeled images for a model whose own are not known, because it was imported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from convatlas.data import Dataset, Split
from convatlas.data import find as find_data
from convatlas.data.dataset import advice
from convatlas.data.folder import Folder
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.files.names import composed
from convatlas.models.card import Card
from convatlas.weights.classes import IMAGENET, class_names, wordnet_ids

MEND = "mend or remove them"


def load_test_images(name: str | Path, card: Card, model: str, progress: ProgressCallback = SILENT) -> Split:
    """The images of a data set to test an imported model on: its test split, or all of it if it has none.

    Args:
        name: of a data set or a folder; its classes are some of the model's, by their names or WordNet ids.
        model: what messages call it.

    Raises:
        UserError: it is not found, cannot be read, or has a class that the model has not.
    """
    source, resize = find_data(name), card.preprocessing.resizing
    with advice(MEND):
        if isinstance(source, Folder):
            classes, split = source.test_images(resize, card.preprocessing.channels)
        else:
            dataset = source.load(resize, seed=card.provenance.seed, progress=progress)
            classes, split = dataset.classes, dataset.test
    return relabeled(split, places_of(classes, card, name, model))


def load_labeled(name: str | Path, card: Card, model: str, progress: ProgressCallback = SILENT) -> Dataset:
    """A data set whose classes are some of an imported model's, with the model's labels; see `load_test_images`."""
    with advice(MEND):
        source = find_data(name)
        dataset = source.load(card.preprocessing.resizing, seed=card.provenance.seed, progress=progress)
    places = places_of(dataset.classes, card, name, model)
    return replace(
        dataset,
        classes=card.classes,
        train=relabeled(dataset.train, places),
        test=relabeled(dataset.test, places),
    )


def places_of(classes: tuple[str, ...], card: Card, name: str | Path, model: str) -> list[int]:
    """Which of the model's classes each class of a data set is.

    Raises:
        UserError: one is none of them.
    """
    places = {composed(own): place for place, own in enumerate(card.classes)}
    if card.classes == class_names(IMAGENET):
        places |= {wordnet_id: place for place, wordnet_id in enumerate(wordnet_ids())}
    if missing := [one for one in classes if composed(one) not in places]:
        raise UserError(
            f"the class {missing[0]} of {name} is none of the {len(card.classes)} of {model}; "
            "call class folders as the model calls its classes, or by their WordNet ids"
        )
    return [places[composed(one)] for one in classes]


def relabeled(split: Split, places: list[int]) -> Split:
    return replace(split, labels=np.array(places, np.int64)[split.labels])
