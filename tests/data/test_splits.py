"""What people call splits, and what only looks like one."""

from __future__ import annotations

import pytest

from convatlas.data.splits import SplitKind, notes_on_splits, resembled, split_kind


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (SplitKind.TRAIN, ["train", "Train", "TRAIN", "training", "Training"]),
        (SplitKind.TEST, ["test", "Test", "testing", "TESTING"]),
        (SplitKind.VAL, ["val", "Val", "valid", "validation", "Validation", "dev"]),
        (None, ["cat", "trains", "seg_train", "test_set", "invalid", "value", "", "device", "retrain"]),
    ],
)
def test_a_split_is_known_by_the_words_that_people_use(kind: SplitKind | None, names: list[str]) -> None:
    assert {split_kind(name) for name in names} == {kind}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (SplitKind.TRAIN, ["train", "seg_train", "training_set", "TrainImages", "train2017", "flowers-train"]),
        (SplitKind.TEST, ["seg_test", "test_set", "testing-images", "TEST_SIMPLE"]),
        (None, ["cat", "trainer", "latest", "invalid", "contest"]),
    ],
)
def test_a_name_resembles_a_split_by_a_whole_word(kind: SplitKind | None, names: list[str]) -> None:
    assert {resembled(name) for name in names} == {kind}


def test_what_splits_are_used_for_is_said_where_their_names_do_not() -> None:
    assert notes_on_splits("train", "test", {}) == ()
    assert notes_on_splits("Training", "valid", {}) == ("Training trains and valid is the test set",)
    assert notes_on_splits("train", "test", {"val": "as it is", "extra": ""}) == (
        "train trains and test is the test set; val is not used: as it is; extra is not used",
    )
