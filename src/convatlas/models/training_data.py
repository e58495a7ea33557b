"""The data set that a model was trained on, found again and held against what its card says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convatlas.data import Dataset, earlier
from convatlas.data import find as find_data
from convatlas.data.dataset import advice, restore
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.files.names import composed
from convatlas.formatting import count
from convatlas.models.card import Card

NUM_NAMED = 5
"""Classes that a message names."""


def load_training_data(
    name: str | Path,
    card: Card,
    trained: str,
    *,
    num_train: int | None = None,
    progress: ProgressCallback = SILENT,
) -> Dataset:
    """The data set of that name or folder, with the split that the model was trained and tested on.

    Args:
        trained: what messages call the model.
        num_train: how many training images there were; None: unknown.
        progress: called with the progress of downloads and of decoding.

    Raises:
        UserError: it is not found, or it is not the one that the model was trained on.
    """
    provenance, resize = card.provenance, card.preprocessing.resizing
    source, checksum = find_data(name), provenance.data_checksum
    if earlier.is_earlier(checksum):
        source = earlier.sorted_as_earlier(source)
    with advice(restore(trained)):
        dataset = source.load(resize, seed=provenance.seed, skip_bad=provenance.skip_bad, progress=progress)
    if checksum == dataset.checksum or (
        earlier.is_earlier(checksum)
        and earlier.decoding_in(checksum, dataset, resize, card.classes, progress) is not None
    ):
        return dataset
    raise UserError(
        f"the images of {name} are not, or no longer, those that {trained} was trained on: "
        f"{difference(card, num_train, dataset)}; name the place of the unchanged ones with `data`, or train again"
    )


def difference(card: Card, num_train: int | None, dataset: Dataset) -> str:
    """What tells the data set from the one that a model was trained on, as far as the card knows that."""
    before, now = list(map(composed, card.classes)), list(map(composed, dataset.classes))
    changes = {
        "missing": [name for name in before if name not in now],
        "new": [name for name in now if name not in before],
    }
    if named := [f"{how}: {shortened(names)}" for how, names in changes.items() if names]:
        return f"other classes ({'; '.join(named)})"
    if before != now:
        return "the same classes in another order"
    num_test = None if card.score is None else card.score.num_images
    numbers = [
        f"{count(len(split))} {part} images, and not {count(num)}"
        for part, num, split in (("training", num_train, dataset.train), ("test", num_test, dataset.test))
        if num is not None and num != len(split)
    ]
    if numbers:
        return ", ".join(numbers)
    if dataset.train.names:
        return "the same classes, but other images, or their names put them in another order"
    resized = earlier.is_earlier(card.provenance.data_checksum)
    return f"the same classes, but other images{', or another version of Pillow resized them' if resized else ''}"


def shortened(names: Sequence[str]) -> str:
    more = f" and {count(len(names) - NUM_NAMED)} others" if len(names) > NUM_NAMED else ""
    return f"{', '.join(names[:NUM_NAMED])}{more}"
