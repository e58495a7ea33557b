"""What files hold is known without reading them again, and never wrongly."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from unicodedata import normalize

import pytest

from convatlas.data.source_files import SourceFile, scan, sorting_key
from convatlas.files.sealed_json import sealed_json, unsealed
from convatlas.images import ReadError

LONG_AGO = (1_500_000_000, 1_500_000_000)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files of 100,000 bytes that nobody has written to for years."""
    (tmp_path / "f" / "below").mkdir(parents=True)
    paths = [tmp_path / "f" / name for name in ("a.jpg", "b.jpg", "below/c.jpg")]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 100_000)
        os.utime(path, LONG_AGO)
    return paths


def contents(paths: list[Path], cache: Path) -> dict[str, bytes]:
    scanned = scan(paths[0].parent, paths, cache)
    scanned.keep()
    return {source.name: source.content for source in scanned.found if isinstance(source, SourceFile)}


def hashed(paths: list[Path]) -> dict[str, bytes]:
    root = paths[0].parent
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).digest() for path in paths}


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def test_each_file_is_known_by_its_name_and_content(files: list[Path], tmp_path: Path) -> None:
    assert contents(files, tmp_path / "cache") == hashed(files)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux says how much a process read")
def test_files_that_have_not_changed_are_not_read_again(files: list[Path], tmp_path: Path) -> None:
    volumes = []
    for _ in range(2):
        before = bytes_read()
        contents(files, tmp_path / "cache")
        volumes.append(bytes_read() - before)
    assert volumes[0] > 300_000
    assert volumes[1] < 20_000
    os.utime(files[1], (1_600_000_000, 1_600_000_000))
    before = bytes_read()
    contents(files, tmp_path / "cache")
    assert 100_000 < bytes_read() - before < 120_000


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux says how much a process read")
def test_a_file_that_was_written_just_now_is_read_again(files: list[Path], tmp_path: Path) -> None:
    """It may be written once more in the same tick of the clock."""
    files[0].write_bytes(b"new" * 50_000)
    contents(files, tmp_path / "cache")
    before = bytes_read()
    contents(files, tmp_path / "cache")
    assert 150_000 < bytes_read() - before < 170_000


def test_any_change_of_a_file_is_noticed(files: list[Path], tmp_path: Path) -> None:
    contents(files, tmp_path / "cache")
    # Of the same size, and with the same time.
    files[0].write_bytes(b"x" * 100_000)
    os.utime(files[0], LONG_AGO)
    files[2].unlink()
    os.link(files[1], files[2])
    assert contents(files, tmp_path / "cache") == hashed(files)


def test_folders_are_not_taken_for_one_another(files: list[Path], tmp_path: Path) -> None:
    contents(files, tmp_path / "cache")
    files[0].parent.rename(tmp_path / "g")
    (tmp_path / "f" / "below").mkdir(parents=True)
    moved = [tmp_path / "g" / path.relative_to(tmp_path / "f") for path in files]
    for path, other in zip(files, reversed(moved), strict=True):
        path.write_bytes(other.read_bytes())
        os.utime(path, LONG_AGO)
    assert contents(files, tmp_path / "cache") == hashed(files)
    assert contents(moved, tmp_path / "cache") == hashed(moved)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "null", "\x00\xff", '{"format": 1}', '{"format": 2, "root": 3, "files": []}']
)
def test_a_damaged_memory_is_forgotten(content: str, files: list[Path], tmp_path: Path) -> None:
    contents(files, tmp_path / "cache")
    (memory,) = (tmp_path / "cache").glob("*.sources.json")
    memory.write_text(content)
    assert contents(files, tmp_path / "cache") == hashed(files)
    assert len(json.loads(memory.read_text())["files"]) == 3


@pytest.mark.parametrize("entry", [None, [], [[1, 2], "aa"], [[1, 2, 3], "zz"], [["a", "b", "c"], "aa"], 7])
def test_a_memory_of_nonsense_is_forgotten(entry: object, files: list[Path], tmp_path: Path) -> None:
    contents(files, tmp_path / "cache")
    (memory,) = (tmp_path / "cache").glob("*.sources.json")
    values = unsealed(json.loads(memory.read_text()))
    values["files"]["a.jpg"] = entry
    memory.write_bytes(sealed_json(values))
    assert contents(files, tmp_path / "cache") == hashed(files)


def test_what_cannot_be_read_says_why(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "f" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "f" / "gone.jpg").symlink_to("nowhere.jpg")
    names = ["loop.jpg", "a.jpg", "gone.jpg", "below"]
    scanned = scan(tmp_path / "f", [tmp_path / "f" / name for name in names], tmp_path / "cache")
    loop, good, gone, folder = scanned.found
    assert isinstance(good, SourceFile)
    for error, reason in ((loop, "leads back to itself"), (gone, "no such file"), (folder, "a folder")):
        assert isinstance(error, ReadError)
        assert reason in error.reason


def test_without_a_place_to_remember_all_is_read(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert contents(files, tmp_path / "cache") == hashed(files)


@pytest.mark.parametrize("kind", [PurePosixPath, PureWindowsPath])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_are_in_the_same_order_on_every_system(kind: type[PurePath], form: str) -> None:
    names = ["B/z.png", "a/B.png", "a/a/b.png", "a/a-b.png", "a/b.png", "f/f.png", "f/\u00e9.png", "\u00e9/a.png"]
    paths = [kind(normalize(form, name)) for name in reversed(names)]
    assert [normalize("NFC", path.as_posix()) for path in sorted(paths, key=sorting_key)] == names


def test_names_that_differ_in_their_spelling_alone_are_in_one_order() -> None:
    one, other = (PurePosixPath("a", normalize(form, "\u00e9.png")) for form in ("NFC", "NFD"))
    assert sorted([one, other], key=sorting_key) == sorted([other, one], key=sorting_key)
