"""What errors advise: an option that the command has, or a word; never one that it lacks."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import convatlas as ca
from convatlas.cli.app import VERBS, not_enough_memory, option_of, options_of, with_options
from convatlas.files.sealed_json import unsealed
from convatlas.runs.options import Runtime

SOURCE = Path(ca.__file__).parent
SUBCOMMANDS = [("experiment", "list"), ("experiment", "run"), ("experiment", "report"), ("cache",)]
ALL = set[str]().union(*(options_of(words) for words in [*((verb,) for verb in VERBS), *SUBCOMMANDS]))


def test_the_options_of_a_command_are_those_of_the_words_that_call_it() -> None:
    assert "--skip-bad" in options_of(["train", "lenet5", "--skip-bad"])
    assert "--budget" in options_of(["experiment", "run", "--all"])
    assert "--budget" not in options_of(["experiment", "report"])
    assert "--data" not in options_of(["trian", "lenet5"])


def test_an_argument_is_named_as_the_option_that_the_command_has_and_else_as_a_word() -> None:
    message = "`skip_bad` or `init_from`"
    assert with_options(message, {"--skip-bad", "--from"}) == "--skip-bad or --from"
    assert with_options(message, {"--from"}) == "skip_bad or --from"


def messages() -> Iterator[tuple[str, str]]:
    """The names in backticks of all texts in the code, but for docstrings and what is written as Markdown."""
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name in ("claims_page.py", "report.py"):
            continue
        tree = ast.parse(path.read_text())
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                for name in re.findall(r"`(\w+)`", node.value):
                    yield path.name, name


def test_every_name_in_a_message_is_an_option_of_some_command() -> None:
    found = list(messages())
    assert len(found) > 20
    assert [(file, name) for file, name in found if option_of(name) not in ALL] == []


@pytest.mark.parametrize("verb", VERBS)
def test_too_little_memory_is_told_with_options_that_the_command_has(verb: str) -> None:
    said = not_enough_memory(options_of([verb]))
    assert set(re.findall(r"--[a-z-]+", said)) <= options_of([verb])
    assert not said.endswith(" ")


# What can be wrong with the images of a trained model, and of one to be trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in `run` and its images in `images`, 2 classes of 6."""
    root = tmp_path_factory.mktemp("trained")
    for name, gray in (("dark", 40), ("light", 220)):
        (root / "images" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (28, 28), gray + number).save(root / "images" / name / f"{number}.png")
    ca.train("lenet1", data=root / "images", epochs=1, runtime=Runtime(autotune=False), out=root / "run")
    return root


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """The same at a place of its own, for a test to damage."""
    shutil.copytree(trained, tmp_path / "place")
    record = tmp_path / "place" / "run" / "run.json"
    values = unsealed(json.loads(record.read_text()))
    record.write_text(json.dumps(values).replace(str(trained), str(tmp_path / "place")))
    return tmp_path / "place"


def break_one(place: Path) -> None:
    (place / "images" / "dark" / "0.png").write_bytes(b"<html>")


def change_one(place: Path) -> None:
    Image.new("L", (28, 28), 99).save(place / "images" / "dark" / "0.png")


def break_class(place: Path) -> None:
    for path in (place / "images" / "dark").iterdir():
        path.write_bytes(b"<html>")


def empty_class(place: Path) -> None:
    for path in (place / "images" / "dark").iterdir():
        path.unlink()


def move(place: Path) -> None:
    (place / "images").rename(place / "elsewhere")


def move_in(place: Path) -> None:
    shutil.copytree(place / "run", place / "images" / "dark" / "runs" / "run")


def split(place: Path) -> None:
    (place / "images" / "dark").rename(place / "images" / "Training")
    (place / "images" / "light").rename(place / "images" / "train")


TROUBLES = {
    break_one: "1 of 12 images cannot be used",
    change_one: "the images of",
    break_class: "6 of 12 images cannot be used",
    empty_class: "has no images in it",
    move: "there is no folder",
    move_in: "is a run or a model of convatlas; move it out of the data",
    split: "has both Training and train",
}
BEFORE = {
    break_one: "the same classes, but other images",
    break_class: "the same classes, but other images",
    split: "other classes (missing: dark, light)",
}
"""Where the images of a training are known, none is decoded that is not one of them."""
TRAINED = [["evaluate"], ["report"], ["compress", "--prune", "0.5", "--epochs", "1"]]
NEW = [["train", "lenet1", "--epochs", "1"], ["find-lr", "lenet1"]]


def only_error(err: str, place: Path) -> str:
    """The one line of an error, behind the one that says what is read."""
    *before, error = err.splitlines()
    said = f"convatlas: reading the images of {place / 'images'}, which "
    assert len(before) <= 1
    assert all(line.startswith(said) and line.endswith("run.json names") for line in before)
    return error


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
@pytest.mark.parametrize("words", TRAINED, ids=" ".join)
def test_a_trained_models_images_are_told_about_with_what_the_verb_knows(
    words: list[str], trouble: Callable[[Path], None], place: Path, convatlas: Callable
) -> None:
    trouble(place)
    # The fixture fails if an option is named that the verb lacks.
    status, _, err = convatlas(words[0], place / "run", *words[1:])
    assert (status, error := only_error(err, place)) == (2, error)
    assert BEFORE.get(trouble, TROUBLES[trouble]) in error
    if trouble is move_in:
        assert "remove" not in err


@pytest.mark.parametrize("trouble", [name for name in TROUBLES if name is not change_one], ids=lambda one: one.__name__)
@pytest.mark.parametrize("words", NEW, ids=" ".join)
def test_new_images_are_told_about_with_what_the_verb_knows(
    words: list[str], trouble: Callable[[Path], None], place: Path, convatlas: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble(place)
    monkeypatch.chdir(place)
    status, _, err = convatlas(*words, "--data", place / "images")
    assert (status, len(err.splitlines())) == (2, 1), err
    assert TROUBLES[trouble] in err
    assert ("set --skip-bad to leave such files out" in err) == ("cannot be used" in err)
    assert not (place / "runs").exists()


def test_resume_tells_what_helps_a_training_that_has_begun(place: Path, convatlas: Callable) -> None:
    run = ca.load(place / "run")
    assert isinstance(run, ca.Run)
    run.record = replace(run.record, results=None)
    run.write()
    break_one(place)
    status, _, err = convatlas("resume", place / "run")
    assert (status, error := only_error(err, place)) == (2, error)
    assert "the same classes, but other images" in error


# What is written is never read as images


@pytest.mark.parametrize(
    "words",
    [
        ["train", "lenet1", "--data", "."],
        ["train", "lenet1", "--data", ".", "--out", "light/run"],
        ["train", "lenet1", "--data", "../images", "--out", "../images/../images/run"],
        ["train", "lenet1", "--data", ".", "--sweep", "lr=0.1,0.2"],
        ["train", "lenet1", "--data", "..", "--sweep", "lr=0.1,0.2", "--out", "sweep"],
        ["train", "lenet1", "--data", "hf:.", "--out", "run"],
        ["find-lr", "lenet1", "--data", ".", "--out", "light/lr.svg"],
        ["report", "../run", "--out", "light/report.html"],
    ],
    ids=" ".join,
)
def test_a_command_writes_nothing_into_its_data(
    words: list[str], place: Path, convatlas: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place / "images")
    before = sorted(place.rglob("*"))
    status, _, err = convatlas(*words)
    assert (status, error := only_error(err, place)) == (2, error)
    assert "which is read as images; name a place elsewhere with --out" in error
    assert sorted(place.rglob("*")) == before


# What is not used is said


def test_training_says_what_it_does_not_use(place: Path, convatlas: Callable) -> None:
    images = place / "images"
    for name in ("dark/notes.txt", "dark/more.txt", "README.md", "light/.hidden.png"):
        (images / name).write_text("mine")
    (images / "dark" / "bad.png").write_text("<html>")
    for number in range(5):
        (images / "light" / f"{number}.png").rename(images / "light" / f"{number}")
    options = ("--epochs", 1, "--no-autotune", "--skip-bad")
    status, out, err = convatlas("train", "lenet1", "--data", images, "--out", place / "new", *options)
    assert status == 0, err
    of_each = (
        "dark/more.txt and 1 more (no image)",
        "README.md (beside the class folders)",
        "light/.hidden.png (hidden)",
    )
    assert f"convatlas: not used: {', '.join(of_each)}\n" in err
    assert f"convatlas: left out {images / 'dark' / 'bad.png'}: not an image" in err
    assert "1 unusable image left out, 4 other files not used" in out
    values = json.loads(
        convatlas("train", "lenet1", "--data", images, "--out", place / "2", *options, "--quiet", "--json").out
    )
    assert (values["train_images"] + values["test_images"], values["skipped_images"], values["unused_files"]) == (
        12,
        1,
        4,
    )
    assert convatlas("report", place / "new").status == 0
    assert "4 other files not used" in (place / "new" / "report.html").read_text()


def test_the_learning_rate_finder_leaves_bad_images_out_and_names_them(place: Path, convatlas: Callable) -> None:
    break_one(place)
    status, out, err = convatlas("find-lr", "lenet1", "--data", place / "images", "--skip-bad")
    assert (status, out.split()[:2]) == (0, ["learning", "rate"])
    assert "left out" in err
    assert "0.png: not an image" in err


def test_a_standard_set_beside_a_folder_of_its_name_is_said_to_be_meant(
    tmp_path: Path, convatlas: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    said = "digits is the standard data set of that name; the folder digits beside it is ./digits"
    assert said in convatlas("train", "lenet1", "--epochs", 1, "--no-autotune").err
    assert "has no folders in it" in convatlas("train", "lenet1", "--data", "./digits").err


# Folders of images to classify


def test_predict_reads_a_folder_as_training_does(place: Path, convatlas: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    image = (place / "images" / "dark" / "0.png").read_bytes()
    for name in ("a.jfif", "b", "c.PNG"):
        (folder / name).write_bytes(image)
    (folder / "notes.txt").write_text("mine")
    shutil.copytree(place / "run", folder / "run")
    status, out, err = convatlas("predict", place / "run", folder, "--csv")
    assert status == 0
    assert [Path(line.partition(",")[0]).name for line in out.splitlines()[1:]] == ["a.jfif", "b", "c.PNG"]
    assert err == f"convatlas: not used of {folder}: notes.txt (no image), run (a run or a model of convatlas)\n"
    (folder / "d.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    status, out, err = convatlas("predict", place / "run", folder, "--csv")
    assert (status, len(out.splitlines())) == (2, 4)
    assert "d.heic: " in err


def test_a_folder_without_images_says_what_it_has(place: Path, convatlas: Callable, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("mine")
    said = convatlas("predict", place / "run", tmp_path / "texts").err
    assert said == f"convatlas: {tmp_path / 'texts'} has no images in it, only a.txt (no image)\n"
