"""Published weights on this machine: found where other libraries put them, or downloaded once."""

from __future__ import annotations

import hashlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convatlas.errors import UserError
from convatlas.files.progress import SilentProgress
from convatlas.weights.local import fetch, find_here, is_published_file, own_place, read_published
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


@pytest.mark.parametrize("member", ["", "net.caffemodel"])
def test_a_download_that_fails_leaves_no_folder(member: str, web, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be fetched"):
        fetch(row_at(web.url("nothing"), member=member))
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("member", ["", "net.caffemodel"])
def test_a_place_that_cannot_be_written_is_said_with_the_variable_that_names_another(
    member: str, web, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text("a file, and no folder")
    with pytest.raises(UserError, match=r"own.* cannot be written \(.+\); set CONVATLAS_DATA to a folder where"):
        fetch(row_at(web.url("nothing"), member=member))


def in_own_cache(row: Published, path: Path) -> Path:
    place = own_place(row)
    place.parent.mkdir(parents=True)
    return path.rename(place)


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_file_that_a_person_put_into_our_cache_is_held_against_its_checksum(algorithm: str, tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 3)}, tmp_path / "weights.pth")
    digest = hashlib.new(algorithm, (tmp_path / "weights.pth").read_bytes()).hexdigest()
    right = row_at("https://example.org/weights.pth", checksum=f"{algorithm}:{digest}")
    place = in_own_cache(right, tmp_path / "weights.pth")
    assert read_published(right).path == place
    with pytest.raises(UserError) as caught:
        read_published(replace(right, checksum=f"{algorithm}:{'0' * 32}"))
    assert str(caught.value) == (
        f"{place} is not torchvision:resnet18 as it was published: its checksum differs; delete it, and it is "
        "downloaded again"
    )
    # Without a checksum there is nothing to hold it against.
    assert read_published(replace(right, checksum=None)).path == place


def test_a_file_cut_short_in_our_cache_says_how_to_have_it_again(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 3)}, tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    (tmp_path / "weights.pth").write_bytes(content[: len(content) // 2])
    row = row_at("https://example.org/weights.pth")
    place = in_own_cache(row, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=rf"^{place} is .*; delete it, and it is downloaded again$"):
        read_published(row)


def test_a_file_is_the_published_one_by_any_checksum(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    for algorithm in ("sha256", "sha1", "md5"):
        digest = hashlib.new(algorithm, CONTENT).hexdigest()
        row = row_at("https://example.org/weights", checksum=f"{algorithm}:{digest}")
        assert is_published_file(row, tmp_path / "weights", sha256)
        assert not is_published_file(replace(row, checksum=f"{algorithm}:{digest[::-1]}"), tmp_path / "weights", sha256)
    assert not is_published_file(replace(row, checksum=None), tmp_path / "weights", sha256)
