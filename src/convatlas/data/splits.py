"""What people call the splits of a data set, and what each is used for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum


class SplitKind(StrEnum):
    """What a split is for. Of those to test on, the first whose images have classes is taken."""

    TRAIN = "train"
    TEST = "test"
    VAL = "val"


SPELLINGS = {
    "train": SplitKind.TRAIN, "training": SplitKind.TRAIN,
    "test": SplitKind.TEST, "testing": SplitKind.TEST,
    "validation": SplitKind.VAL, "valid": SplitKind.VAL, "val": SplitKind.VAL, "dev": SplitKind.VAL,
}  # fmt: skip
DRAWN, NO_CLASSES = "validation images are drawn from training's", "its images have no classes"
"""Why a split is not used."""


def split_kind(name: str) -> SplitKind | None:
    """What a split of that name is for, whatever its capitals; None if no split is called so."""
    return SPELLINGS.get(name.casefold())


def resembled(name: str) -> SplitKind | None:
    """The kind of split that a word of a name says, as of `seg_train`, `test_set` and `TrainImages`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return next((kind for word in words if (kind := split_kind(word))), None)


def notes_on_splits(train: str, test: str, rest: Mapping[str, str]) -> tuple[str, ...]:
    """A line about what each split is used for, where their names do not say it.

    Args:
        rest: the splits that are not used, and why.
    """
    if not rest and split_kind(test) is SplitKind.TEST:
        return ()
    others = [f"{name} is not used{f': {why}' if why else ''}" for name, why in rest.items()]
    return ("; ".join([f"{train} trains and {test} is the test set", *others]),)
