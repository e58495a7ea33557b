"""Every file below a folder is an image or named with its reason, once; and 60 random trees, from the folder to the
counts of the data set."""

from __future__ import annotations

import io
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data.folder import Folder
from convatlas.errors import UserError
from convatlas.files.names import CARD, RECORD
from convatlas.images import ImageError, why_not
from convatlas.images.listing import HIDDEN, LINK, NO_IMAGE, OUTPUT, SUFFIXES, Unused, list_files, summary
from convatlas.images.sniff import READ


def encoded(kind: str = "PNG", gray: int = 99) -> bytes:
    file = io.BytesIO()
    Image.new("L", (6, 6), gray).save(file, kind)
    return file.getvalue()


PNG, JPEG = encoded(), encoded("JPEG")
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
PAGE = b"<!DOCTYPE html><p>404"


def reasons(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): reason for path, reason in list_files(folder).unused}


def images(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_files(folder).images]


# What is an image


@pytest.mark.at_once("suffix", sorted(SUFFIXES))
def test_a_suffix_that_counts_as_an_image_is_of_a_format_that_is_read_with_pillow_heif_or_without(suffix: str) -> None:
    Image.init()
    assert suffix in (".heic", ".heif") or Image.registered_extensions()[suffix] in READ


@pytest.mark.parametrize("name", ["a", "a.jfif", "a.dat", "a.txt", "a.png ", "a.png.", "IMG_1.JPG.download", "a.тиф"])
def test_an_image_of_any_suffix_or_none_is_found_by_its_content(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(PNG)
    assert images(tmp_path) == [name]
    assert reasons(tmp_path) == {}


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.b.png", "a.jfif", "a.avif", "a.heic"])
@pytest.mark.parametrize("content", [b"", PAGE, HEIC])
def test_a_file_with_an_images_suffix_is_meant_to_be_one_whatever_it_holds(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert images(tmp_path) == [name]


@pytest.mark.parametrize("content", [HEIC, SVG, b"8BPS\0\1"])
@pytest.mark.parametrize("name", ["a", "a.heic", "a.svg", "a.psd", "a.txt"])
def test_an_image_of_a_format_that_is_not_read_is_an_image_too(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert images(tmp_path) == [name]


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    files = {"notes.txt": b"mine", "Thumbs.db": b"\xd0\xcf\x11\xe0", "labels.json": b"{}", "empty": b"", "a.mp4": b"x"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert reasons(tmp_path) == dict.fromkeys(files, NO_IMAGE)
    assert images(tmp_path) == []


def test_a_document_is_no_image_though_it_could_be_drawn(tmp_path: Path) -> None:
    (tmp_path / "license.pdf").write_bytes(b"%PDF-1.7")
    assert reasons(tmp_path) == {"license.pdf": why_not("PDF")}


def test_what_is_hidden_is_named_and_not_entered(tmp_path: Path) -> None:
    for name in (".a.png", "._b.png", ".DS_Store", ".ipynb_checkpoints/c.png", "__MACOSX/cat/._d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    hidden = [".DS_Store", "._b.png", ".a.png", ".ipynb_checkpoints", "__MACOSX"]
    assert reasons(tmp_path) == dict.fromkeys(hidden, HIDDEN)
    assert images(tmp_path) == []


def test_links_to_files_are_files_and_links_to_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a").write_bytes(PNG)
    folder = tmp_path / "folder"
    folder.mkdir()
    targets = {"file": "outside/a", "others": "outside", "loop": "folder", "gone": "x", "gone.png": "x"}
    for name, target in targets.items():
        (folder / name).symlink_to(tmp_path / target)
    (folder / "itself").symlink_to("itself")
    assert images(folder) == ["file", "gone.png"]
    assert reasons(folder) == {
        "others": LINK,
        "loop": LINK,
        "gone": "there is no such file",
        "itself": "a symbolic link that leads back to itself",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert reasons(tmp_path) == {"pipe": "a device or a pipe, not an image"}


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="every file may be read by this user")
def test_what_may_not_be_read_is_named_and_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0)
    assert reasons(tmp_path) == {"secret": "cannot be read (Permission denied)"}
    (tmp_path / "mine").mkdir(mode=0)
    with pytest.raises(UserError, match=r"mine cannot be read \(Permission denied\)"):
        list_files(tmp_path)


# Runs and models of ours


WEIGHTS = "weights.safetensors"


@pytest.mark.parametrize(
    "files", [(RECORD, WEIGHTS), (RECORD, CARD), (CARD, WEIGHTS), (RECORD, "checkpoint.safetensors")]
)
def test_a_run_or_a_model_is_one_entry_and_its_charts_are_no_images(files: tuple[str, ...], tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    run.mkdir(parents=True)
    for name in (*files, "report.html"):
        (run / name).touch()
    (run / "curves.svg").write_bytes(SVG)
    assert list_files(tmp_path).unused == (Unused(run, OUTPUT),)
    assert list_files(tmp_path).outputs == [run]
    assert images(tmp_path) == []


def test_the_model_json_of_another_program_makes_no_model(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text("{}")
    (tmp_path / "a.png").write_bytes(PNG)
    assert images(tmp_path) == ["a.png"]
    assert reasons(tmp_path) == {CARD: NO_IMAGE}


def test_it_is_found_by_the_names_that_training_writes(finished: Callable) -> None:
    assert list_files(finished("lenet5").folder.parent).outputs == [finished("lenet5").folder]


# The line about all of them


def test_a_line_names_the_first_of_each_reason_and_counts_the_others(tmp_path: Path) -> None:
    files = [
        Unused(tmp_path / ".git", HIDDEN),
        *(Unused(tmp_path / "cat" / f"{number}.txt", NO_IMAGE) for number in range(1200)),
        ImageError(tmp_path / "x.png", "damaged"),
    ]
    assert summary(files, tmp_path) == "cat/0.txt and 1,199 more (no image), .git (hidden), x.png (damaged)"
    assert summary(files[:1]) == f"{tmp_path / '.git'} (hidden)"
    assert summary([]) == ""


def test_a_line_stays_short_whatever_lies_there(tmp_path: Path) -> None:
    files = [Unused(tmp_path / str(number), f"for the reason {number}") for number in range(50)]
    assert summary(files, tmp_path).endswith("4 (for the reason 4), and 45 for other reasons")


# Sixty random trees

USED, SKIPPED, UNUSED = "used", "skipped", "unused"
GOOD = (PNG, JPEG, encoded("GIF"), encoded("BMP"))
STEMS = ["a", "b c", "-rf", "'q\"", "[red]", "שלום", "🐅", "x" * 190, "é", "e\u0301", "a\nb", "#1 %20 ~", "COM1", "..a"]
if sys.platform == "linux":
    STEMS += [os.fsdecode(b"\xff\xfe"), "tab\t\x1b[31m"]


@dataclass
class Tree:
    """A random data set on disk, and what must become of each file or closed folder in it."""

    random: random.Random
    root: Path
    outside: Path
    fates: dict[Path, str] = field(default_factory=dict)

    def name(self, folder: Path, suffix: str = "") -> Path:
        """A new one."""
        number = len(self.fates) + self.random.randrange(10**6)
        return folder / f"{self.random.choice(STEMS).removeprefix('..')}{number}{suffix}"

    def put(self, folder: Path, suffix: str, content: bytes, fate: str) -> None:
        path = self.name(folder, suffix)
        path.write_bytes(content)
        self.fates[path] = fate

    def link(self, folder: Path, suffix: str, target: Path | str, fate: str) -> None:
        path = self.name(folder, suffix)
        path.symlink_to(target)
        self.fates[path] = fate

    def good(self, folder: Path) -> None:
        suffixes = [".png", ".JPG", ".tar.png", ".jfif", "", ".txt", ".", " ", ".png ", ".dat", ".heic"]
        self.put(folder, self.random.choice(suffixes), self.random.choice(GOOD), USED)

    def odd(self, folder: Path, depth: int = 0) -> None:
        """Something that may lie in a class folder."""
        some = self.random.choice
        kind = self.random.randrange(11)
        if kind == 0:
            self.put(folder, some([".jpg", ".PNG", ".jfif", ".avif"]), some([b"", PAGE, JPEG[:50]]), SKIPPED)
        elif kind == 1:
            self.put(folder, some(["", ".svg", ".heic", ".txt"]), some([HEIC, SVG, b"8BPS\0\1"]), SKIPPED)
        elif kind in (2, 3):
            self.put(folder, some(["", ".txt", ".json", ".db", ".png.txt"]), some([b"", PAGE, b"mine"]), UNUSED)
        elif kind == 4:
            path = folder / f".{self.name(folder, '.png').name}"
            path.write_bytes(PNG)
            self.fates[path] = UNUSED
        elif kind == 5:
            path = folder / some([".hidden", ".ipynb_checkpoints", "__MACOSX"])
            path.mkdir(exist_ok=True)
            (path / self.name(path, ".png").name).write_bytes(PNG)
            self.fates[path] = UNUSED
        elif kind == 6:
            self.link(folder, some(["", ".png", ".lnk"]), self.outside / "photo", USED)
        elif kind == 7:
            path = self.name(folder, suffix := some(["", ".jpg"]))
            path.symlink_to(some([self.outside / "nowhere", path.name]))
            self.fates[path] = SKIPPED if suffix else UNUSED
        elif kind == 8:
            self.link(folder, some(["", ".png"]), some([self.root, self.outside, folder]), UNUSED)
        elif kind == 9 and hasattr(os, "mkfifo"):
            path = self.name(folder, suffix := some(["", ".png"]))
            os.mkfifo(path)
            self.fates[path] = SKIPPED if suffix else UNUSED
        elif depth < 3:
            below = self.name(folder, some(["", ".png", "."]))
            below.mkdir()
            for _ in range(self.random.randrange(4)):
                some([self.good, lambda path: self.odd(path, depth + 1)])(below)

    def class_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for _ in range(2 + self.random.randrange(3)):
            self.good(folder)
        for _ in range(self.random.randrange(6)):
            self.odd(folder)

    def beside(self, folder: Path) -> None:
        """Something that may lie beside class folders."""
        kind = self.random.randrange(5)
        if kind == 0:
            self.put(folder, ".png", PNG, UNUSED)
        elif kind == 1:
            self.put(folder, ".csv", b"", UNUSED)
        elif kind == 2:
            self.link(folder, "", self.random.choice([self.root, self.root.parent, folder, "nowhere"]), UNUSED)
        elif kind == 3:
            (folder / ".git").mkdir(exist_ok=True)
            (folder / ".git" / "a.png").write_bytes(PNG)
            self.fates[folder / ".git"] = UNUSED


def grow(seed: int, root: Path) -> Tree:
    tree = Tree(random.Random(seed), root / "data", root / "outside")
    tree.root.mkdir()
    tree.outside.mkdir()
    (tree.outside / "photo").write_bytes(PNG)
    some = tree.random.choice
    splits = some([("",), ("",), ("train", "test"), ("Training", "valid"), ("train", "val", "Test")])
    classes = tree.random.sample(STEMS, 2 + tree.random.randrange(2))
    for split in splits:
        for name in classes:
            # No class of these is hidden, and none is called as another in another form of Unicode.
            tree.class_folder(tree.root / split / f"class {STEMS.index(name)} {name}")
        for _ in range(tree.random.randrange(4)):
            tree.beside(tree.root / split)
    for _ in range(tree.random.randrange(3)):
        tree.beside(tree.root)
    if len(splits) == 3:
        idle = [path for path, fate in tree.fates.items() if fate != UNUSED and path.is_relative_to(tree.root / "val")]
        tree.fates |= dict.fromkeys(idle, UNUSED)
    if splits == ("",) and some([True, False]):
        linked = tree.root / "linked"
        tree.class_folder(tree.outside / "class")
        linked.symlink_to(tree.outside / "class")
        for path in [path for path in tree.fates if path.is_relative_to(tree.outside)]:
            tree.fates[linked / path.relative_to(tree.outside / "class")] = tree.fates.pop(path)
    return tree


def walked(root: Path) -> list[Path]:
    """Every file and every link below a folder, as the system lists them, and those in links beside its classes."""
    found: list[Path] = []
    for parent, folders, files in os.walk(root):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [Path(parent) / name for name in (*files, *links)]
    return found


@pytest.mark.parametrize("seed", range(60))
def test_every_file_of_a_random_tree_is_used_or_named_with_a_reason_once(seed: int, tmp_path: Path) -> None:
    tree = grow(seed, tmp_path)
    dataset = Folder(tree.root).load(4, seed=seed, skip_bad=True)
    assert len(dataset.train) + len(dataset.test) == len({*dataset.train.names, *dataset.test.names})
    fates = [
        *((tree.root / name, USED) for name in (*dataset.train.names, *dataset.test.names)),
        *((error.path, SKIPPED) for error in dataset.skipped),
        *((one.path, UNUSED) for one in dataset.unused),
    ]
    assert dict(fates) == tree.fates
    assert len(fates) == len(tree.fates), Counter(path for path, _ in fates).most_common(1)
    assert all(one.reason for one in (*dataset.skipped, *dataset.unused))
    # What the system lists is covered by what was expected, so that nothing of the tree is forgotten here.
    covered = set(tree.fates)
    for path in [*walked(tree.root), *walked(tree.root / "linked")]:
        if path != tree.root / "linked":
            assert len(covered & {path, *path.parents}) == 1, path
    assert np.isin(dataset.train.labels, range(len(dataset.classes))).all()
    assert all("\n" not in " ".join(line.split()) for line in dataset.remarks)
