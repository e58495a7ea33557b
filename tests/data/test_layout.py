"""Which folders are splits and which are classes, what is refused as it could be both, and what lies in the data."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from convatlas.data.layout import BESIDE, NO_SPLIT, TWICE, Layout, lies_in, read_layout
from convatlas.errors import UserError
from convatlas.images.listing import HIDDEN

PNG = "image.png"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def put(root: Path, *names: str) -> None:
    """Files, images where they are called so, below a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.new("L", (6, 6)).save(path)
        else:
            path.write_text("no image")


def put_splits(root: Path, *names: str) -> None:
    """Splits with two classes of an image each."""
    put(root, *(f"{name}/{of_class}/{PNG}" for name in names for of_class in ("cat", "dog")))


def seen(root: Path) -> list[dict[str, list[str]]]:
    """The images of each class in each split, by their names below the folder."""
    return [
        {name: [path.relative_to(root).as_posix() for path in paths] for name, paths in split.items()}
        for split in read_layout(root).splits
    ]


def of_splits(root: Path) -> list[str]:
    """The folders of the splits that are used."""
    for split in (splits := seen(root)):
        assert list(split) == ["cat", "dog"]
    return [split["cat"][0].partition("/")[0] for split in splits]


def unused(layout: Layout, root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): reason for path, reason in layout.unused}


def complaint(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_layout(root)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{root} ")


# Splits, however they are spelled


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("TRAIN", "Val"),
        ("train", "valid"),
        ("training", "validation"),
        ("Train", "dev"),
    ],
)
def test_splits_are_recognized_as_people_spell_them(train: str, test: str, data: Path) -> None:
    put_splits(data, train, test)
    assert of_splits(data) == [train, test]
    assert read_layout(data).unused == ()


def test_test_comes_before_val_and_each_ones_use_is_said(data: Path) -> None:
    put_splits(data, "train", "test", "valid")
    put(data, "valid/notes.txt", "valid/loose.png")
    layout = read_layout(data)
    assert of_splits(data) == ["train", "test"]
    assert layout.notes == (
        "train trains and test is the test set; valid is not used: validation images are drawn from training's",
    )
    assert unused(layout, data) == {
        f"valid/cat/{PNG}": NO_SPLIT,
        f"valid/dog/{PNG}": NO_SPLIT,
        "valid/loose.png": NO_SPLIT,
        "valid/notes.txt": "no image",
    }


@pytest.mark.parametrize("flat", [("test/0.png", "test/1.png"), ("test/.keep",), ("test/more/notes.txt", "test/0.png")])
def test_a_test_folder_without_classes_is_passed_over_for_val(flat: tuple[str, ...], data: Path) -> None:
    put_splits(data, "train", "val")
    put(data, *flat)
    assert of_splits(data) == ["train", "val"]
    assert read_layout(data).notes == (
        "train trains and val is the test set; test is not used: its images have no classes",
    )


def test_a_val_folder_alone_is_said_to_be_the_test_set(data: Path) -> None:
    put_splits(data, "train", "val")
    assert read_layout(data).notes == ("train trains and val is the test set",)


def test_files_and_folders_without_images_may_lie_beside_splits(data: Path) -> None:
    put_splits(data, "train", "test")
    put(data, "README.md", "train/stray.png", "annotations/a.xml", ".git/HEAD", "empty/deep/.keep")
    assert of_splits(data) == ["train", "test"]
    assert unused(read_layout(data), data) == {
        "README.md": BESIDE,
        "train/stray.png": BESIDE,
        "annotations/a.xml": "no image",
        ".git": HIDDEN,
        "empty/deep/.keep": HIDDEN,
    }


# Classes that are called like splits


@pytest.mark.parametrize("name", ["test", "Train", "valid", "dev"])
def test_a_folder_full_of_images_among_classes_is_a_class(name: str, data: Path) -> None:
    put(data, f"cat/{PNG}", f"dog/{PNG}", f"{name}/{PNG}")
    assert set(read_layout(data).classes) == {"cat", "dog", name}


def test_a_vehicle_may_be_a_train(data: Path) -> None:
    put(data, f"bus/{PNG}", f"car/night/{PNG}", f"train/{PNG}")
    assert read_layout(data).classes == ("bus", "car", "train")


def test_valid_and_invalid_are_classes(data: Path) -> None:
    put(data, f"valid/{PNG}", f"invalid/{PNG}")
    assert read_layout(data).classes == ("invalid", "valid")


def test_classes_with_a_word_of_a_split_are_classes(data: Path) -> None:
    put(data, f"train_station/{PNG}", f"test_tube/{PNG}", f"cat/{PNG}")
    assert read_layout(data).classes == ("cat", "test_tube", "train_station")


# What could be both


@pytest.mark.parametrize(("one", "other"), [("Training", "train"), ("val", "validation"), ("Test", "testing")])
def test_two_names_of_one_split_are_refused(one: str, other: str, data: Path) -> None:
    put_splits(data, one, other)
    first, second = sorted([one, other])
    assert complaint(data) == (
        f"has both {first} and {second}, two names of one split; keep one of them, or rename them if they are classes"
    )


def test_images_beside_splits_are_refused(data: Path) -> None:
    put_splits(data, "train", "test", "more")
    assert complaint(data) == (
        "is split into test and train, and has images in more beside them; move more elsewhere, or rename test and "
        "train if these are classes"
    )


@pytest.mark.parametrize("names", [("train", "bus"), ("Testing", "cow"), ("val", "emu", "test")])
def test_a_split_among_classes_is_refused(names: tuple[str, ...], data: Path) -> None:
    put_splits(data, *names)
    assert "rename" in complaint(data)


def test_splits_without_training_are_refused(data: Path) -> None:
    put_splits(data, "Testing", "Validation")
    assert complaint(data) == (
        "is split into Testing and Validation without a train folder; add one, or rename Testing and Validation if "
        "these are classes"
    )


def test_training_alone_is_told_what_it_lacks_and_how_to_do_without(data: Path) -> None:
    put_splits(data, "Training")
    assert complaint(data) == (
        f"has a Training folder; it needs a test or val folder beside it, or name {data / 'Training'} as the data, to "
        "draw the test images from it"
    )
    assert read_layout(data / "Training").classes == ("cat", "dog")


def test_images_in_splits_without_classes_are_refused(data: Path) -> None:
    """As where the labels lie in a table."""
    put(data, "train/0.png", "test/1.png", "labels.csv")
    assert complaint(data) == f"{data / 'train'} has no folders of images in it; make one for each class"


def test_a_test_folder_without_classes_alone_is_refused(data: Path) -> None:
    put_splits(data, "train")
    put(data, "test/0.png")
    assert complaint(data) == (
        f"{data / 'test'} has no folders of images in it; make one for each class, or name {data / 'train'} as the "
        "data, to draw the test images from it"
    )


@pytest.mark.parametrize(
    "names",
    [
        # Kaggle's Intel scenes, dogs and cats, cassava leaves.
        ("seg_train/seg_train/a/0.png", "seg_test/seg_test/a/0.png", "seg_pred/seg_pred/0.png"),
        ("training_set/training_set/a/0.png", "test_set/test_set/a/0.png"),
        ("train_images/0.png", "test_images/0.png"),
        ("train2017/0.png", "val2017/0.png"),
    ],
)
def test_folders_that_look_like_splits_are_no_classes(names: tuple[str, ...], data: Path) -> None:
    put(data, *names)
    assert "look like splits, not like classes; call them train and test" in complaint(data)


def test_classes_that_differ_between_the_splits_are_named(data: Path) -> None:
    put_splits(data, "train", "test")
    put(data, f"test/emu/{PNG}")
    assert complaint(data) == f"{data / 'train'} and {data / 'test'} have different classes: emu"


# Names in Unicode's forms

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
# Some file systems know one form only.
one_form = pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="both are one folder here")


@one_form
def test_a_class_has_one_name_whichever_form_its_folders_have(data: Path) -> None:
    put(data, f"train/{COMPOSED}/{PNG}", f"train/bar/{PNG}", f"test/{DECOMPOSED}/{PNG}", f"test/bar/{PNG}")
    assert [list(split) for split in seen(data)] == [["bar", COMPOSED]] * 2
    put(data, f"val/{DECOMPOSED}/{PNG}", f"val/bar/{PNG}", f"train/zoo/{PNG}")
    assert complaint(data).endswith("have different classes: zoo")


@one_form
def test_the_classes_of_both_splits_are_in_the_same_order(data: Path) -> None:
    """In bytes, one form comes before cage and the other after it."""
    put(data, f"train/{COMPOSED}/{PNG}", f"train/cafz/{PNG}", f"test/{DECOMPOSED}/{PNG}", f"test/cafz/{PNG}")
    assert [list(split) for split in seen(data)] == [["cafz", COMPOSED]] * 2


@one_form
def test_two_folders_of_one_class_are_joined_and_it_is_said(data: Path) -> None:
    put(data, f"{DECOMPOSED}/1.png", f"{COMPOSED}/0.png", "bar/0.png")
    assert seen(data) == [{"bar": ["bar/0.png"], COMPOSED: [f"{DECOMPOSED}/1.png", f"{COMPOSED}/0.png"]}]
    assert read_layout(data).notes == (
        f"2 folders of {data} are the class {COMPOSED}: Unicode writes their names in several ways",
    )


# Links to folders


def test_a_class_or_a_split_may_be_a_link_to_a_folder_elsewhere(data: Path) -> None:
    put_splits(data.parent / "elsewhere", "train", "more")
    put(data, f"test/dog/{PNG}")
    (data / "train").symlink_to(data.parent / "elsewhere" / "train")
    (data / "test" / "cat").symlink_to(data.parent / "elsewhere" / "more" / "cat")
    assert of_splits(data) == ["train", "test"]


def test_a_link_to_what_is_read_anyway_or_around_in_a_circle_is_named_and_not_followed(data: Path) -> None:
    put(data, f"cat/{PNG}", f"dog/{PNG}", f".store/emu/{PNG}")
    targets = {"again": "cat", "circle": ".", "above": "..", "below": "cat/../dog"}
    for name, target in targets.items():
        (data / name).symlink_to(target)
    (data / "emu").symlink_to(".store/emu")
    layout = read_layout(data)
    assert layout.classes == ("cat", "dog", "emu")
    assert unused(layout, data) == dict.fromkeys(targets, TWICE) | {".store": HIDDEN}


# Classes without images, and runs in the data


def test_a_class_without_images_says_what_it_has(data: Path) -> None:
    put(data, f"cat/{PNG}", "dog/b.txt", "dog/a.txt", "dog/.DS_Store")
    assert complaint(data) == (
        f"the class folder {data / 'dog'} has no images in it, only a.txt and 1 more (no image), .DS_Store (hidden); "
        "add some or remove it"
    )
    (data / "dog").rename(data / "emu")
    for path in (data / "emu").iterdir():
        path.unlink()
    assert complaint(data) == f"the class folder {data / 'emu'} has no images in it; add some or remove it"


@pytest.mark.parametrize("place", ["runs/run", "run", "cat/runs/run", "compressed/narrowed"])
def test_a_run_in_the_data_is_never_told_to_be_removed(place: str, data: Path, finished: Callable) -> None:
    put(data, f"cat/{PNG}", f"dog/{PNG}")
    (data / place).mkdir(parents=True)
    for path in finished("lenet5").folder.iterdir():
        (data / place / path.name).write_bytes(path.read_bytes())
    (data / place).parent.joinpath("accuracy.svg").write_text("<svg />")
    said = complaint(data)
    assert said == f"{data / place} is a run or a model of convatlas; move it out of the data {data} to keep it"


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_run_in_a_split_is_told_as_well(split: str, data: Path) -> None:
    put_splits(data, "train", "test", "val")
    put(data, f"{split}/cat/run/run.json", f"{split}/cat/run/weights.safetensors")
    assert "move it out of the data" in complaint(data)


# What lies in the data


def test_a_place_in_the_data_is_one_by_whatever_way_it_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_splits(data, "train", "test")
    put(data.parent / "elsewhere", f"emu/{PNG}")
    (data.parent / "alias").symlink_to(data)
    (data / "train" / "emu").symlink_to(data.parent / "elsewhere" / "emu")
    monkeypatch.chdir(data)
    inside = [
        data, data / "runs", data / "train" / "new" / "deep", data.parent / "alias" / "x", data / "x" / ".." / "y",
        Path("runs"), Path("train/x.svg"), Path("../alias/cat"), data.parent / "elsewhere" / "emu" / "run",
    ]  # fmt: skip
    assert [place for place in inside if not lies_in(place, data)] == []
    outside = [
        data.parent, data.parent / "runs", data.parent / "data2", Path(".."), Path("../runs"), data / ".." / "run",
        data.parent / "elsewhere" / "run", data / ".runs" / "run",
    ]  # fmt: skip
    assert [place for place in outside if lies_in(place, data)] == []


def test_the_data_is_the_same_folder_by_another_name(data: Path) -> None:
    (data.parent / "alias").symlink_to(data)
    assert lies_in(data / "run", data.parent / "alias")


def test_capitals_do_not_fool_where_the_file_system_does_not_know_them(data: Path) -> None:
    other = data.parent / "DATA"
    if not other.exists():
        pytest.skip("the file system tells capitals apart")
    assert lies_in(other / "run", data)
