"""The cache as files: what it may take, and that nothing of anybody else's is ever removed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files import lock
from convatlas.files.decoded_cache import (
    DEFAULT_LIMIT,
    EntryKind,
    allowance,
    clear,
    entries,
    footprint,
    limit,
    make_room,
    touch,
)


def entry(cache: Path, name: str, num_bytes: int, used: int | None) -> Path:
    """An entry of that size; one without a time is unfinished."""
    folder = cache / f"{name}.decoded"
    folder.mkdir(parents=True)
    values = {"source": f"/images/{name}", "kind": "raw", "side": 8, "contents": ["aa", "bb"]}
    index = json.dumps(values)
    (folder / "images").write_bytes(bytes(num_bytes - (0 if used is None else len(index))))
    if used is not None:
        (folder / "index.json").write_text(index)
        os.utime(folder / "index.json", (used, used))
    return folder


def names(cache: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in cache.glob("*.decoded")}


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("0", 0),
        ("123", 123),
        ("10K", 10_000),
        ("1.5M", 1_500_000),
        ("20G", 20 * 10**9),
        ("20 GB", 20 * 10**9),
        ("20GiB", 20 * 2**30),
        ("2tib", 2 * 2**40),
        ("", DEFAULT_LIMIT),
    ],
)
def test_the_limit_is_a_size(text: str, num_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", text)
    assert limit() == num_bytes


@pytest.mark.parametrize("text", ["much", "-1", "1e9", "5X", "G", "nan", "1,5G"])
def test_a_limit_that_is_no_size_is_one_clear_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", text)
    with pytest.raises(UserError) as caught:
        limit()
    assert str(caught.value).startswith(f"CONVATLAS_CACHE_LIMIT is {text!r}, which is not a size; ")


def test_entries_are_listed_the_last_used_first(tmp_path: Path) -> None:
    entry(tmp_path, "old", 1000, 5)
    entry(tmp_path, "new", 2000, 9)
    new, old = entries(tmp_path)
    assert (old.source, old.num_images, old.side, old.kind) == ("/images/old", 2, 8, EntryKind.RAW)
    assert (old.num_bytes, old.used, new.num_bytes, new.used) == (1000, 5, 2000, 9)
    touch(old.folder)
    assert [one.source for one in entries(tmp_path)] == ["/images/old", "/images/new"]


def test_what_is_unfinished_or_damaged_is_no_entry_and_takes_room(tmp_path: Path) -> None:
    entry(tmp_path, "unfinished", 1000, None)
    damaged = entry(tmp_path, "damaged", 1000, 5)
    for content in ("", "[]", "{}", '{"source": 1, "kind": "gif", "side": 1, "contents": []}', "\x00"):
        (damaged / "index.json").write_text(content)
        assert entries(tmp_path) == []
        assert footprint(tmp_path) >= 1900


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert entries(tmp_path / "no") == []
    assert footprint(tmp_path / "no") == 0
    assert clear(tmp_path / "no") == (0, [])


def test_the_allowance_is_never_more_than_the_disk_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(tmp_path, "a", 1000, 5)
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "5000")
    assert allowance(tmp_path) == 5000
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "9000000T")
    assert 0 < allowance(tmp_path) < shutil.disk_usage(tmp_path).free + 1000


def test_the_least_used_make_room_and_no_more_of_them_than_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "4000")
    for used, name in enumerate("abcd"):
        entry(tmp_path, name, 1000, used)
    entry(tmp_path, "unfinished", 500, None)
    new = entry(tmp_path, "new", 500, None)
    make_room(tmp_path, 1500, keep=[new])
    assert names(tmp_path) == {"c", "d", "new"}
    make_room(tmp_path, 0, keep=[new])
    assert names(tmp_path) == {"c", "d", "new"}
    make_room(tmp_path, 10_000, keep=[new])
    assert names(tmp_path) == {"new"}


def test_what_is_being_written_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "1")
    busy = entry(tmp_path, "busy", 1000, None)
    with lock(busy):
        make_room(tmp_path, 5000, keep=[])
        assert clear(tmp_path) == (0, [busy])
        assert (busy / "images").stat().st_size == 1000
    assert clear(tmp_path) == (1000, [])
    assert names(tmp_path) == set()


def test_clearing_leaves_alone_what_is_not_the_caches(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    (tmp_path / "notes.json").write_text("mine")
    (tmp_path / "0123.sources.json").write_text("ours")
    entry(tmp_path, "a", 1000, 5)
    assert clear(tmp_path) == (1004, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.json", "photos"]
