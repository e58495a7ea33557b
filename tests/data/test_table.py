"""Folders of images with a table of their classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convatlas as ca
from convatlas.data import Table
from convatlas.data import find as find_data
from convatlas.errors import UserError
from convatlas.runs.command import command
from convatlas.runs.options import InitFrom, Runtime, Validation
from convatlas.runs.run import load_run
from convatlas.training.validation import split_validation

UNTUNED = Runtime(autotune=False)
NUM_PATIENTS = 12


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Three images of each of twelve patients, of whom every second is ill, in one folder, and a table of them."""
    rng = np.random.default_rng(0)
    root = tmp_path / "scans"
    (root / "images").mkdir(parents=True)
    rows = ["image_name,patient,Class"]
    for number in range(3 * NUM_PATIENTS):
        patient = number // 3
        pixels = rng.integers(0, 128, (28, 28), dtype=np.uint8) + 127 * (patient % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"scan{number}.png")
        rows.append(f"scan{number},p{patient},{'ill' if patient % 2 else 'well'}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def patients_of(names: tuple[str, ...]) -> set[int]:
    return {int(Path(name).stem.removeprefix("scan")) // 3 for name in names}


def test_a_table_says_the_classes_and_no_patient_is_on_both_sides(patients: Path) -> None:
    dataset = find_data(patients, Table("labels.csv", "patient")).load(28, seed=3)
    assert dataset.classes == ("ill", "well")
    for split in (dataset.train, dataset.test):
        ill = [patient % 2 for patient in (int(Path(name).stem.removeprefix("scan")) // 3 for name in split.names)]
        assert split.labels.tolist() == [1 - one for one in ill]
    assert len(dataset.train) + len(dataset.test) == 36
    assert not patients_of(dataset.train.names) & patients_of(dataset.test.names)
    # Without a column to group by, each image is drawn alone.
    apart = find_data(patients, Table("labels.csv")).load(28, seed=3)
    assert patients_of(apart.train.names) & patients_of(apart.test.names)
    # And not on both sides of what is held out of training either.
    train, val = split_validation(dataset.train, Validation(val_split=0.3), seed=0)
    assert not patients_of(train.names) & patients_of(val.names)


def test_a_run_keeps_the_table(patients: Path, tmp_path: Path) -> None:
    run = ca.train(
        "lenet5-modern",
        patients,
        labels=patients / "labels.csv",
        group_by="patient",
        epochs=1,
        runtime=UNTUNED,
        out=tmp_path / "run",
    )
    assert (run.card.provenance.labels, run.card.provenance.group_by) == ("labels.csv", "patient")
    again = load_run(run.folder)
    assert again.evaluate().score == run.score
    said = command(again)
    assert said is not None
    assert f"--labels {patients / 'labels.csv'} --group-by patient" in said
    # It moves with the images.
    moved = patients.rename(tmp_path / "moved")
    assert again.evaluate(moved).score == run.score
    tuned = ca.train(
        "lenet5-modern",
        moved,
        labels="labels.csv",
        group_by="patient",
        init_from=InitFrom(path=str(run.folder)),
        epochs=1,
        runtime=UNTUNED,
        out=tmp_path / "tuned",
    )
    assert tuned.record.validation == Validation()
    # Other rows are another data set.
    text = (moved / "labels.csv").read_text()
    (moved / "labels.csv").write_text(text.replace("p3,ill", "p3,well"))
    with pytest.raises(UserError, match="are not, or no longer, those that"):
        again.evaluate(moved)


def write_rows(folder: Path, *rows: str) -> None:
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """a/1.png, b/1.png and b/2.jpg."""
    for name in ("a/1.png", "b/1.png", "b/2.jpg"):
        path = tmp_path / "three" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path)
    return tmp_path / "three"


@pytest.mark.parametrize(
    "rows",
    [
        ("file,label", "a/1.png,x", "b/1.png,y", "2,x"),
        ("FILE; label", r"a\1.png;x", "b/1;y", "2.jpg;x"),
        ("id\tPath\tclass", "1\ta/1\tx", "2\tb/1\ty", "", "3\tb/2.jpg\tx"),
    ],
    ids=["commas", "semicolons", "tabs"],
)
def test_images_are_named_by_their_paths_or_names(rows: tuple[str, ...], three: Path) -> None:
    write_rows(three, *rows)
    layout = Table("labels.csv").layout(three)
    assert layout.splits == ({"x": [three / "a/1.png", three / "b/2.jpg"], "y": [three / "b/1.png"]},)
    assert layout.unused == ()


def test_images_without_a_row_or_a_class_are_said(three: Path) -> None:
    write_rows(three, "file,label", "a/1.png,x", "b/1.png,")
    (three / "notes.txt").write_text("of the day")
    found = {path.relative_to(three).as_posix(): reason for path, reason in Table("labels.csv").layout(three).unused}
    assert found == {
        "b/1.png": "no class in labels.csv", "b/2.jpg": "no class in labels.csv", "notes.txt": "no image",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), r"has no column of image files; call one of its columns \(\) file"),
        (("file,kind", "a/1.png,x"), r"has no column of classes; call one of its columns \(file, kind\) label"),
        (("name,label", "a/1.png,x"), "has no column of image files"),
        (("file,label", "1.png,x"), r"names 1.png, and there are .*; give its path"),
        (("file,label", "c.png,x", "d.png,x", "e.png,x", "f.png,x"), "names images that are not in .*: c.png, d.png,"),
        (("file,label", "a/1.png,x", "a/1.png,y"), "has two different rows of a/1.png"),
        (("file,label", "a/1.png,x,y"), "row 2 of .* has 3 values, and there are 2 columns"),
        (("file,label", 'a/1.png,"x'), "is not a table that can be read as CSV"),
        (("file,label", "a/1.png,"), "has no row with a class"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(rows: tuple[str, ...], message: str, three: Path) -> None:
    write_rows(three, *rows)
    with pytest.raises(UserError, match=message) as caught:
        Table("labels.csv").layout(three)
    assert "\n" not in str(caught.value)


def test_the_same_row_twice_is_one(three: Path) -> None:
    write_rows(three, "file,label", "a/1.png,x", "a/1.png,x", "b/1.png,y")
    assert Table("labels.csv").layout(three).splits == ({"x": [three / "a/1.png"], "y": [three / "b/1.png"]},)


def test_a_group_column_must_be_there_and_filled(three: Path) -> None:
    write_rows(three, "file,label,patient", "a/1.png,x,1", "b/1.png,y,")
    with pytest.raises(UserError, match=r"there is no column 'patent'; did you mean patient|did you mean patient"):
        Table("labels.csv", "patent").layout(three)
    with pytest.raises(UserError, match=r"row 3 of .* has no patient; fill it in"):
        Table("labels.csv", "patient").layout(three)


def complaint(wrong: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        wrong()
    return str(caught.value)


def test_a_table_lies_in_the_folder(three: Path, tmp_path: Path) -> None:
    assert "there is no table labels.csv" in complaint(lambda: Table.of("labels.csv", None, three))
    (tmp_path / "labels.csv").write_text("file,label\n")
    assert "put it there" in complaint(lambda: Table.of(tmp_path / "labels.csv", None, three))
    # Whoever wrote a card may name any file in it.
    for path in ("../labels.csv", str(tmp_path / "labels.csv")):
        assert "is not in" in complaint(lambda path=path: Table(path).layout(three))
    (three / "labels.csv").write_bytes(b"file,label\n\xff\xfe,x\n")
    assert "is not text in UTF-8" in complaint(lambda: Table("labels.csv").layout(three))


def test_only_folders_take_a_table(three: Path) -> None:
    assert "digits has classes of its own" in complaint(lambda: find_data("digits", Table("labels.csv")))
    write_rows(three, "file,label", "a/1.png,x")
    assert Table.of("labels.csv", None, three) == replace(Table("labels.csv"), group_by=None)
    wrong = complaint(lambda: ca.train("lenet5", three, group_by="patient"))
    assert wrong == "`group_by` is a column of a table; name the table with `labels`"


def test_a_table_is_found_below_a_home_and_beside_another_of_its_name(
    patients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    home = "~/scans"
    for labels, data in ((f"{home}/labels.csv", patients), ("labels.csv", home), (Path(home, "labels.csv"), home)):
        assert Table.of(labels, None, data) == Table("labels.csv")
    (tmp_path / "labels.csv").write_text("another data set's")
    monkeypatch.chdir(tmp_path)
    assert Table.of("labels.csv", None, patients) == Table("labels.csv")
