"""Published weights on this machine: found where other libraries put them, or downloaded once."""

from __future__ import annotations

import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files.progress import SilentProgress
from convatlas.weights.local import fetch, find_here
from convatlas.weights.published import Published, find_published

CONTENT = b"weights" * 1000
CHECKSUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()[:8]}"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty ones."""
    monkeypatch.setenv("CONVATLAS_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


def row_at(address: str, **changes: str | None) -> Published:
    """resnet18 of torchvision, from another place."""
    return replace(find_published("torchvision:resnet18"), address=address, **{"checksum": CHECKSUM} | changes)  # type: ignore[arg-type]


def test_what_is_nowhere_is_downloaded_once(web, tmp_path: Path) -> None:
    web.files["resnet18.pth"] = CONTENT
    row = row_at(web.url("resnet18.pth"))
    assert find_here(row) is None
    path = fetch(row)
    assert path == fetch(row) == find_here(row)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(tmp_path / "own")
    assert web.asked == ["resnet18.pth"]


def test_another_file_than_was_published_is_refused(web) -> None:
    web.files["resnet18.pth"] = CONTENT + b"and more"
    with pytest.raises(UserError, match="sent another file than expected"):
        fetch(row_at(web.url("resnet18.pth")))


def test_a_file_of_torch_hub_is_taken_if_it_is_the_published_one(web, tmp_path: Path) -> None:
    web.files["resnet18.pth"] = CONTENT
    row = row_at(web.url("resnet18.pth"))
    theirs = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18.pth"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(CONTENT)
    assert fetch(row) == find_here(row) == theirs
    assert web.asked == []
    theirs.write_bytes(b"cut short")
    assert fetch(row).is_relative_to(tmp_path / "own")


def test_a_file_of_the_hub_is_taken(web, tmp_path: Path) -> None:
    row = find_published("timm:resnet18.a1_in1k")
    theirs = tmp_path / "hf" / "hub" / "models--timm--resnet18.a1_in1k" / "snapshots" / "abc" / "model.safetensors"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(CONTENT)
    # The checksum is of the .pth that timm had before.
    assert row.checksum is not None
    assert fetch(row) == find_here(row) == theirs


def test_what_cannot_be_verified_is_said_before_it_is_downloaded(web) -> None:
    class Said(SilentProgress):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, line: str) -> None:
            self.lines.append(line)

    web.files["resnet18.pth"] = CONTENT
    verified, unverified = Said(), Said()
    row = row_at(web.url("resnet18.pth"), checksum=None)
    fetch(row, unverified)
    assert unverified.lines == [
        "nobody publishes a checksum of torchvision:resnet18: what is downloaded is not verified"
    ]
    fetch(row, unverified)
    assert len(unverified.lines) == 1
    fetch(row_at(web.url("resnet18.pth"), tag="other"), verified)
    assert verified.lines == []


def test_a_file_within_an_archive_is_taken_out_and_the_archive_does_not_stay(web, tmp_path: Path) -> None:
    archive = tmp_path / "models.zip"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("inside/net.caffemodel", CONTENT)
        files.writestr("others", b"x" * 1000)
    web.files["models.zip"] = archive.read_bytes()
    row = row_at(web.url("models.zip"), member="inside/net.caffemodel")
    path = fetch(row)
    assert path.name == "net.caffemodel"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["net.caffemodel"]


def test_an_archive_is_downloaded_once_by_all_that_ask_for_it(web, tmp_path: Path) -> None:
    archive = tmp_path / "models.zip"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("inside/net.caffemodel", CONTENT)
    web.files["models.zip"] = archive.read_bytes()
    row = row_at(web.url("models.zip"), member="inside/net.caffemodel")
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(fetch, [row] * 8))
    assert set(paths) == {find_here(row)}
    assert web.asked == ["models.zip"]


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_what_is_no_archive_is_said_in_a_line(content: bytes, web) -> None:
    web.files["models.zip"] = content
    with pytest.raises(UserError, match=r"has no net.caffemodel that can be read: .*; delete it, and try again"):
        fetch(row_at(web.url("models.zip"), member="net.caffemodel"))
