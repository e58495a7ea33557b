"""A folder of a person's images: its classes, its split, and every way in which it can be wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.data import Dataset, Split
from convatlas.data.dataset import UnusableImagesError, advice
from convatlas.data.folder import Folder, split_by_class
from convatlas.data.folder_images import FolderImages
from convatlas.errors import UserError


def grays(values: range) -> list[Image.Image]:
    """An image of one gray each, to be known by it afterwards."""
    return [Image.new("L", (6, 6), value) for value in values]


def shown(split: Split) -> dict[int, list[int]]:
    """The grays of each class in a split."""
    return {
        int(label): sorted(int(image[0, 0, 0]) for image in split.images[split.labels == label])
        for label in np.unique(split.labels)
    }


def complaint(folder: Path, skip_bad: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        Folder(folder).load(4, skip_bad=skip_bad)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def animals(tmp_path: Path, write_images) -> Path:
    """Ten cats of grays 0 to 9, five dogs of grays 100 to 104."""
    return write_images(tmp_path / "animals", {"cat": grays(range(10)), "dog": grays(range(100, 105))})


# Classes and images


def test_each_folder_is_a_class_and_each_of_its_images_is_used_once(animals: Path) -> None:
    images = Folder(animals).load(4)
    assert images.name == str(animals)
    assert images.classes == ("cat", "dog")
    train, test = shown(images.train), shown(images.test)
    assert sorted(train[0] + test[0]) == list(range(10))
    assert sorted(train[1] + test[1]) == list(range(100, 105))
    assert images.skipped == ()


def test_classes_come_in_the_order_of_their_names(tmp_path: Path, write_images) -> None:
    classes = {name: grays(range(2)) for name in ("zebra", "ant", "cow")}
    assert Folder(write_images(tmp_path / "f", classes)).load(4).classes == ("ant", "cow", "zebra")


def test_images_of_a_class_come_in_the_order_of_their_names_whenever_they_were_written(tmp_path: Path) -> None:
    names = [f"{stem}.png" for stem in "dbagcefh"]
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for file in names:
                Image.new("L", (6, 6), ord(file[0])).save(tmp_path / part / name / file)
    images = Folder(tmp_path).load(4)
    in_order = list(b"abcdefgh") * 2
    for split in (images.train, images.test):
        assert split.images[:][:, 0, 0, 0].tolist() == in_order


def test_images_come_at_the_wanted_size(animals: Path) -> None:
    images = Folder(animals).load(9)
    assert images.train.images.shape[1:] == images.test.images.shape[1:] == (1, 9, 9)
    assert images.train.images[:].dtype == np.uint8
    assert images.train.labels.dtype == np.int64


def test_images_in_folders_below_belong_to_the_class(animals: Path) -> None:
    (animals / "cat" / "more" / "yet").mkdir(parents=True)
    Image.new("L", (6, 6), 50).save(animals / "cat" / "more" / "yet" / "a.PNG")
    images = Folder(animals).load(4)
    assert 50 in shown(images.train)[0] + shown(images.test)[0]


@pytest.mark.parametrize("suffix", ["jfif", "", "JPG", "dat", "txt"])
def test_an_image_counts_whatever_its_suffix(suffix: str, animals: Path) -> None:
    for path in sorted((animals / "cat").iterdir())[:6]:
        Image.open(path).save(path.with_suffix(f".{suffix}" if suffix else ""), "JPEG", quality=100)
        path.unlink()
    images = Folder(animals).load(4)
    assert len(images.train) + len(images.test) == 15
    assert images.skipped == images.unused == images.notes == ()
    assert Folder(animals).typical_size == (6, 6)


def test_a_class_in_a_format_that_is_not_read_says_why(animals: Path) -> None:
    for path in (animals / "dog").iterdir():
        path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        path.rename(path.with_suffix(""))
    assert f"5 of 15 images cannot be used, the first is {animals / 'dog' / '000'}: " in complaint(animals)
    assert "no image of the class dog can be used: dog/000 and 4 more (" in complaint(animals, skip_bad=True)


def test_what_is_not_used_is_named_in_full_and_in_one_line(animals: Path) -> None:
    (animals / "README.md").write_text("mine")
    for number in range(2000):
        (animals / "cat" / f"{number}.txt").touch()
    images = Folder(animals).load(4)
    assert len(images.unused) == 2001
    [line] = images.notes
    assert line == "not used: cat/0.txt and 1,999 more (no image), README.md (beside the class folders)"
    assert images.remarks == (line,)


def test_the_cache_does_not_lie_in_the_data(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(animals / "decoded"))
    assert complaint(animals) == (
        f"the cache {animals / 'decoded'} lies in the data {animals}; set CONVATLAS_CACHE to a folder elsewhere"
    )
    assert not (animals / "decoded").exists()
    # What is hidden is never read.
    monkeypatch.setenv("CONVATLAS_CACHE", str(animals / ".decoded"))
    assert len(Folder(animals).load(4).train) == 12


def test_files_that_are_no_images_and_hidden_files_are_not_looked_at(animals: Path) -> None:
    before = Folder(animals).load(4).checksum
    for name in ("notes.txt", "Thumbs.db", "labels.csv", ".hidden.png", "._000.png", "png"):
        (animals / "cat" / name).write_bytes(b"no image")
    (animals / "README.md").write_bytes(b"no image")
    (animals / "loose.png").write_bytes(b"no image")
    assert Folder(animals).load(4).checksum == before


@pytest.mark.parametrize("place", [".git", "cat/.ipynb_checkpoints"])
def test_hidden_folders_are_not_looked_at(animals: Path, place: str) -> None:
    before = Folder(animals).load(4).checksum
    (animals / place).mkdir()
    Image.new("L", (6, 6), 50).save(animals / place / "000-checkpoint.png")
    assert Folder(animals).load(4).checksum == before


def test_a_loop_of_links_does_not_trap_us(animals: Path) -> None:
    before = Folder(animals).load(4).checksum
    (animals / "cat" / "loop").symlink_to(animals, target_is_directory=True)
    (animals / "dog" / "self").symlink_to(animals / "dog", target_is_directory=True)
    assert Folder(animals).load(4).checksum == before


def test_a_link_to_an_image_is_an_image(animals: Path) -> None:
    Image.new("L", (6, 6), 50).save(animals.parent / "elsewhere.png")
    (animals / "cat" / "link.png").symlink_to(animals.parent / "elsewhere.png")
    images = Folder(animals).load(4)
    assert 50 in shown(images.train)[0] + shown(images.test)[0]


def test_a_link_to_nowhere_is_told_by_its_name(animals: Path) -> None:
    (animals / "cat" / "link.png").symlink_to(animals / "nowhere.png")
    assert f"{animals / 'cat' / 'link.png'}: there is no such file" in complaint(animals)


def test_a_link_to_itself_is_told_by_its_name(animals: Path) -> None:
    (animals / "cat" / "link.png").symlink_to("link.png")
    assert f"{animals / 'cat' / 'link.png'}: a symbolic link that leads back to itself" in complaint(animals)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="every folder may be read by this user")
def test_a_folder_below_that_may_not_be_read_is_named(animals: Path) -> None:
    """Its images would be missing without a word."""
    (animals / "cat" / "mine").mkdir(mode=0)
    assert complaint(animals) == f"the folder {animals / 'cat' / 'mine'} cannot be read (Permission denied)"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
def test_a_pipe_is_not_waited_for(animals: Path) -> None:
    os.mkfifo(animals / "cat" / "pipe.png")
    assert f"{animals / 'cat' / 'pipe.png'}: a device or a pipe, not an image" in complaint(animals)


# Gray and color


def test_gray_images_have_one_channel(animals: Path) -> None:
    assert Folder(animals).load(4).channels == 1


def test_one_image_in_color_gives_all_three_channels_and_leaves_the_gray_ones_gray(animals: Path) -> None:
    Image.new("RGB", (6, 6), (200, 10, 30)).save(animals / "dog" / "color.png")
    images = Folder(animals).load(4)
    assert images.train.images.shape[1] == images.test.images.shape[1] == images.channels == 3
    everything = np.concatenate([images.train.images[:], images.test.images[:]])
    gray = (everything == everything[:, :1]).all(axis=(1, 2, 3))
    assert gray.sum() == 15
    assert everything[~gray][0, :, 0, 0].tolist() == [200, 10, 30]


def test_color_in_the_test_part_alone_counts_too(tmp_path: Path, write_images) -> None:
    write_images(tmp_path / "train", {"cat": grays(range(2)), "dog": grays(range(2))})
    write_images(tmp_path / "test", {"cat": [Image.new("RGB", (6, 6), "red")], "dog": grays(range(1))})
    images = Folder(tmp_path).load(4)
    assert images.train.images.shape[1] == images.test.images.shape[1] == 3


# The split


def test_a_fifth_of_each_class_is_for_the_test(animals: Path) -> None:
    images = Folder(animals).load(4)
    assert np.bincount(images.test.labels).tolist() == [2, 1]
    assert np.bincount(images.train.labels).tolist() == [8, 4]


def test_the_same_seed_gives_the_same_split_and_another_seed_another(animals: Path) -> None:
    checksums = [Folder(animals).load(4, seed=seed).checksum for seed in (0, 0, 1)]
    assert checksums[0] == checksums[1] != checksums[2]


@given(sizes=st.lists(st.integers(2, 30), min_size=2, max_size=4), seed=st.integers(0, 2**32), data=st.data())
def test_every_class_is_in_both_parts_and_no_image_is_lost(sizes: list[int], seed: int, data: st.DataObject) -> None:
    labels = np.array(data.draw(st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist())), np.int64)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    train, test = split_by_class(Split(images, labels), tuple("abcd"[: len(sizes)]), Path("f"), seed)
    assert sorted([*train.images[:].flat, *test.images[:].flat]) == list(range(len(labels)))
    for part in (train, test):
        assert part.labels.tolist() == labels[part.images[:].flatten()].tolist()
    assert np.bincount(test.labels).tolist() == [max(1, round(size / 5)) for size in sizes]


def test_a_changed_image_and_a_new_name_of_a_class_change_the_checksum(animals: Path) -> None:
    checksums = {Folder(animals).load(4).checksum}
    Image.new("L", (6, 6), 77).save(animals / "cat" / "000.png")
    checksums.add(Folder(animals).load(4).checksum)
    (animals / "cat").rename(animals / "cats")
    checksums.add(Folder(animals).load(4).checksum)
    assert len(checksums) == 3


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_split_that_is_given_is_kept_whatever_the_seed(name: str, tmp_path: Path, write_images) -> None:
    write_images(tmp_path / "train", {"cat": grays(range(4)), "dog": grays(range(100, 103))})
    write_images(tmp_path / name, {"cat": grays(range(50, 51)), "dog": grays(range(60, 65))})
    for seed in (0, 1):
        images = Folder(tmp_path).load(4, seed=seed)
        assert images.classes == ("cat", "dog")
        assert shown(images.train) == {0: [0, 1, 2, 3], 1: [100, 101, 102]}
        assert shown(images.test) == {0: [50], 1: [60, 61, 62, 63, 64]}


def test_val_is_not_the_test_set_where_there_is_a_test_folder(tmp_path: Path, write_images) -> None:
    for name, values in (("train", range(4)), ("val", range(20, 22)), ("test", range(30, 33))):
        write_images(tmp_path / name, {"cat": grays(values), "dog": grays(values)})
    assert shown(Folder(tmp_path).load(4).test) == {0: [30, 31, 32], 1: [30, 31, 32]}


def test_every_image_has_its_path_below_the_folder_for_a_name(animals: Path) -> None:
    images = Folder(animals).load(4)
    names = [*images.train.names, *images.test.names]
    expected = [f"cat/{i:03}.png" for i in range(10)] + [f"dog/{i:03}.png" for i in range(5)]
    assert sorted(names) == expected
    for split in (images.train, images.test):
        for index, (name, label) in enumerate(zip(split.names, split.labels.tolist(), strict=True)):
            value = int(split.images[index : index + 1][0, 0, 0, 0])
            assert name == (f"cat/{value:03}.png" if label == 0 else f"dog/{value - 100:03}.png")
            assert split.name_of(index) == name


def test_names_of_a_split_that_is_given_say_which_part(tmp_path: Path, write_images) -> None:
    for part in ("train", "val"):
        write_images(tmp_path / part, {"cat": grays(range(1)), "dog": grays(range(1))})
    images = Folder(tmp_path).load(4)
    assert images.train.names == ("train/cat/000.png", "train/dog/000.png")
    assert images.test.names == ("val/cat/000.png", "val/dog/000.png")


def test_parts_of_a_folder_are_read_from_the_cache_and_not_copied(animals: Path) -> None:
    split = Folder(animals).load(4).train
    part = split.take(np.array([3, 1]))
    assert isinstance(part.images, FolderImages)
    assert part.names == (split.names[3], split.names[1])
    assert np.array_equal(part.images[:], split.images[np.array([3, 1])])
    assert part.checksum == split.take(np.array([3, 1])).checksum != split.take(np.array([1, 3])).checksum


@pytest.mark.parametrize("indices", [slice(None), slice(1, 9, 3), np.array([5, 0, 5]), np.arange(12) % 2 == 0])
def test_rows_are_taken_as_from_an_array(animals: Path, indices: slice | np.ndarray) -> None:
    images = Folder(animals).load(4).train.images
    taken = images[indices]
    assert type(taken) in (np.ndarray, np.memmap)
    assert np.array_equal(taken, np.array(images[:])[indices])
    assert images.shape == (12, 1, 4, 4)
    assert len(images) == 12


# What is wrong with a folder


def test_a_train_folder_alone_is_told_what_it_lacks(tmp_path: Path, write_images) -> None:
    write_images(tmp_path / "train", {"cat": grays(range(2)), "dog": grays(range(2))})
    assert complaint(tmp_path).startswith(f"{tmp_path} has a train folder; it needs a test or val folder beside it")


def test_classes_that_differ_between_the_parts_are_named(tmp_path: Path, write_images) -> None:
    write_images(tmp_path / "train", {"cat": grays(range(2)), "dog": grays(range(2))})
    write_images(tmp_path / "test", {"cat": grays(range(2)), "cow": grays(range(2))})
    expected = f"{tmp_path / 'train'} and {tmp_path / 'test'} have different classes: cow, dog"
    assert complaint(tmp_path) == expected


def test_a_folder_without_folders_is_told_to_make_them(tmp_path: Path) -> None:
    Image.new("L", (6, 6)).save(tmp_path / "a.png")
    expected = f"{tmp_path} has no folders in it; make one for each class and put its images there"
    assert complaint(tmp_path) == expected


def test_an_empty_class_is_named(animals: Path) -> None:
    (animals / "cow").mkdir()
    (animals / "cow" / "notes.txt").write_text("none yet")
    said = "has no images in it, only notes.txt (no image); add some or remove it"
    assert complaint(animals) == f"the class folder {animals / 'cow'} {said}"


def test_one_class_alone_is_told_to_be_too_few(tmp_path: Path, write_images) -> None:
    write_images(tmp_path, {"cat": grays(range(4))})
    assert complaint(tmp_path) == f"{tmp_path} has only one class (cat); classification takes at least two"


def test_a_class_of_one_image_is_named(animals: Path, write_images) -> None:
    write_images(animals, {"cow": grays(range(1))})
    expected = f"the class cow of {animals} has one usable image; it needs two, to train and to test"
    assert complaint(animals) == expected


def test_a_class_of_one_image_may_stand_in_a_split_that_is_given(tmp_path: Path, write_images) -> None:
    for name in ("train", "test"):
        write_images(tmp_path / name, {"cat": grays(range(1)), "dog": grays(range(1))})
    assert len(Folder(tmp_path).load(4).train) == 2


# Files that cannot be used


def break_images(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def test_bad_files_are_counted_and_the_first_of_each_reason_is_named(animals: Path) -> None:
    break_images(animals, {"dog/001.png": b"<html>", "cat/003.png": b"<html>"})
    (animals / "dog" / "004.png").unlink()
    (animals / "dog" / "004.png").symlink_to("nowhere")
    message = complaint(animals)
    assert message.startswith(
        f"3 of 15 images cannot be used, the first is {animals / 'cat' / '003.png'}: not an image"
    )
    assert message.endswith("; others are dog/004.png (there is no such file)")


def test_what_helps_is_said_by_whoever_knows_the_verb(animals: Path) -> None:
    break_images(animals, {"cat/003.png": b""})
    with pytest.raises(UnusableImagesError) as caught:
        Folder(animals).load(4)
    assert "skip_bad" not in str(caught.value)
    with pytest.raises(UserError, match=r"cannot be used, .*; pray$") as advised, advice("pray"):
        Folder(animals).load(4)
    assert not isinstance(advised.value, UnusableImagesError)


def test_skipped_files_are_left_out_and_listed_with_their_reasons(animals: Path) -> None:
    break_images(animals, {"dog/001.png": b"<html>", "cat/003.png": b""})
    images = Folder(animals).load(4, skip_bad=True)
    train, test = shown(images.train), shown(images.test)
    assert sorted(train[0] + test[0]) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert sorted(train[1] + test[1]) == [100, 102, 103, 104]
    reasons = [str(error) for error in images.skipped]
    assert [reason.partition(": ")[0] for reason in reasons] == [
        str(animals / "cat" / "003.png"),
        str(animals / "dog" / "001.png"),
    ]
    assert all("not an image" in reason for reason in reasons)


def test_skipping_changes_nothing_where_all_files_are_good(animals: Path) -> None:
    assert Folder(animals).load(4, skip_bad=True).checksum == Folder(animals).load(4).checksum


def test_a_class_that_loses_every_image_is_named(animals: Path) -> None:
    break_images(animals, {f"dog/{i:03}.png": b"<html>" for i in range(5)})
    assert complaint(animals, skip_bad=True).startswith(
        "no image of the class dog can be used: dog/000.png and 4 more (not an image"
    )


def test_a_class_that_keeps_one_image_is_named(animals: Path) -> None:
    break_images(animals, {f"dog/{i:03}.png": b"<html>" for i in range(4)})
    assert complaint(animals, skip_bad=True).startswith(f"the class dog of {animals} has one usable image")


def test_an_image_beyond_the_pixel_limit_is_a_bad_file(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (50, 50)).save(animals / "cat" / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert "huge.png: larger than the limit of 2,000 pixels" in complaint(animals)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_of_any_letters_are_read(tmp_path: Path, write_images) -> None:
    classes = {name: grays(range(2)) for name in ("Tiger 🐅", "[bold]", "naïve 'quoted'")}
    images: Dataset = Folder(write_images(tmp_path / "f", classes)).load(4)
    assert set(images.classes) == set(classes)
