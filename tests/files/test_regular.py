"""Only regular files are read, and no more of them than expected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files import num_bytes, read


def test_a_file_of_the_expected_size_is_read(tmp_path: Path) -> None:
    (path := tmp_path / "file").write_bytes(b"12345")
    (link := tmp_path / "link").symlink_to(path)
    assert read(path) == read(path, 5) == read(link, 6) == b"12345"
    assert num_bytes(path) == num_bytes(link) == 5


def test_a_larger_one_is_refused_and_not_read_to_its_end(tmp_path: Path) -> None:
    with (path := tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=r"sparse is larger than 1\.0 KiB"):
        read(path, 2**10)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    (loop := tmp_path / "loop").symlink_to(loop)
    for path in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(UserError, match="a folder, a device or a pipe, not a file"):
            read(path)
    with pytest.raises(UserError, match="cannot be read"):
        read(loop)
    assert {num_bytes(path) for path in (pipe, tmp_path, loop, Path("/dev/zero"))} == {None}


@pytest.mark.parametrize("name", ["gone", "gone/below", "a\0b"])
def test_what_is_not_there_is_not_found(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / name)
    assert num_bytes(tmp_path / name) is None


def test_nothing_lies_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "file" / "below")
