"""The data set that a model was trained on, found again and held against what its card says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from convatlas.data import Dataset, Table, earlier, is_streamed, what_is_read
from convatlas.data import find as find_data
from convatlas.data.dataset import advice, restore
from convatlas.data.folder import Folder
from convatlas.data.standard import Standard
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
    table = None if provenance.labels is None else Table(provenance.labels, provenance.group_by)
    source, checksum = find_data(name, table), provenance.data_checksum
    if earlier.is_earlier(checksum):
        source = earlier.sorted_as_earlier(source)

    def others(difference: str) -> UserError:
        return UserError(
            f"the images of {name} are not, or no longer, those that {trained} was trained on: {difference}; "
            "name the place of the unchanged ones with `data`, or train again"
        )

    if isinstance(source, Standard):
        if changes := other_classes(card.classes, source.classes):
            raise others(changes)
    elif isinstance(source, Folder):
        check_undecoded(source, card, num_train, others)
    with advice(restore(trained)):
        dataset = source.load(resize, seed=provenance.seed, skip_bad=provenance.skip_bad, progress=progress)
    if not is_of(card, dataset, progress):
        raise others(difference(card, num_train, dataset))
    return dataset


def check_may_read(name: str, trained: str) -> None:
    """
    Raises:
        UserError: a card or a record names that data set, and only a person may.
    """
    if is_streamed(name):
        raise UserError(
            f"{trained} was trained on {name}, and reading that may connect to the Hugging Face hub; "
            f"to allow it, name {name} with `data`"
        )


def say_what_is_read(name: str, where: str, progress: ProgressCallback) -> None:
    """Before a data set is read that a card or a record names, say so.

    Args:
        where: what names it.

    Raises:
        UserError: see `find`.
    """
    if what := what_is_read(name):
        progress.say(f"{what}, which {where} names")


def is_of(card: Card, dataset: Dataset, progress: ProgressCallback = SILENT) -> bool:
    """Whether that is the data set of a card."""
    checksum, resize = card.provenance.data_checksum, card.preprocessing.resizing
    return checksum == dataset.checksum or (
        earlier.is_earlier(checksum)
        and earlier.decoding_in(checksum, dataset, resize, card.classes, progress) is not None
    )


def check_undecoded(folder: Folder, card: Card, num_train: int | None, others: Callable[[str], UserError]) -> None:
    """Hold all that is known of a folder without decoding it against the card, the cheapest first.

    Whoever wrote a record may name any folder in it: of another one, nothing is decoded or kept in the cache.

    Args:
        num_train: see `load_training_data`.
        others: the error that says what differs.

    Raises:
        UserError: it is not the folder that the model was trained on.
    """
    classes, found = set(map(composed, card.classes)), folder.class_names
    if not any(classes <= names for names in found):
        raise others(other_classes(card.classes, sorted(found[-1])))
    provenance, preprocessing = card.provenance, card.preprocessing
    num_files = len(list(folder.layout.images))
    if num_train is not None and card.score is not None:
        num = num_train + card.score.num_images
        if num_files < num or (num_files > num and not provenance.skip_bad):
            raise others(f"{count(num_files)} images, and not {count(num)}")
    dataset, scan = folder.undecoded(
        preprocessing.resizing, preprocessing.channels, seed=provenance.seed, skip_bad=provenance.skip_bad
    )
    if not is_of(card, dataset):
        raise others(difference(card, num_train, dataset))
    scan.keep()


def other_classes(before: Sequence[str], now: Sequence[str]) -> str:
    """Which classes are missing and which are new; "" if they are the same."""
    before, now = list(map(composed, before)), list(map(composed, now))
    changes = {
        "missing": [name for name in before if name not in now],
        "new": [name for name in now if name not in before],
    }
    named = [f"{how}: {shortened(names)}" for how, names in changes.items() if names]
    return f"other classes ({'; '.join(named)})" if named else ""


def difference(card: Card, num_train: int | None, dataset: Dataset) -> str:
    """What tells the data set from the one that a model was trained on, as far as the card knows that."""
    if changes := other_classes(card.classes, dataset.classes):
        return changes
    if list(map(composed, card.classes)) != list(map(composed, dataset.classes)):
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
