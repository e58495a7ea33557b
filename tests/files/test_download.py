"""Downloads arrive whole and checked, or not at all."""

from __future__ import annotations

import gc
import hashlib
import socket
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files import download

CONTENT = bytes(range(256)) * 40
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()[:8]}"
"""Its beginning, as the names of some files have it."""


@pytest.fixture
def refusing() -> str:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/set.gz"


def complaint(url: str, destination: Path, checksum: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        download(url, destination, checksum=checksum)
    message = str(caught.value)
    assert "\n" not in message
    return message


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("checksum", [None, MD5, SHA256])
def test_file_arrives_whole_in_a_folder_made_for_it(web, tmp_path: Path, checksum: str | None) -> None:
    web.files["set.gz"] = CONTENT
    destination = tmp_path / "new" / "folder" / "set.gz"
    assert download(web.url("set.gz"), destination, checksum=checksum) == destination
    assert destination.read_bytes() == CONTENT
    assert files_below(tmp_path) == [destination]


@pytest.mark.parametrize("checksum", [None, MD5, SHA256])
def test_file_that_is_there_is_left_alone_and_nothing_is_asked_for(web, tmp_path: Path, checksum: str | None) -> None:
    web.files["set.gz"] = CONTENT
    (tmp_path / "set.gz").write_bytes(b"mine")
    assert download(web.url("set.gz"), tmp_path / "set.gz", checksum=checksum).read_bytes() == b"mine"
    assert web.asked == []


def test_destination_may_have_another_name_than_the_address(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    assert download(web.url("set.gz"), tmp_path / "other").read_bytes() == CONTENT


def test_what_killed_downloads_left_is_gone_after_the_next(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    destination = tmp_path / "set.gz"
    (tmp_path / ".lock").touch()
    (tmp_path / ".set.gz.part").write_bytes(b"of who knows what")
    download(web.url("set.gz"), destination)
    assert files_below(tmp_path) == [destination]
    (tmp_path / ".lock").touch()
    download(web.url("set.gz"), destination)
    assert files_below(tmp_path) == [destination]


def test_wrong_checksum_is_a_mistake_and_leaves_nothing(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT[:-1]
    message = complaint(web.url("set.gz"), tmp_path / "cache" / "set.gz", MD5)
    assert message == f"{web.url('set.gz')} sent another file than expected (its checksum differs)"
    assert files_below(tmp_path) == []


def test_folders_that_a_failed_download_made_go_again(web, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for place in ("new/folder/set.gz", "there/set.gz"):
        complaint(web.url("set.gz"), tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    # What is kept of a download keeps its folder.
    web.files["set.gz"] = CONTENT * 100
    web.cut_short.add("set.gz")
    complaint(web.url("set.gz"), tmp_path / "new" / "set.gz", SHA256)
    assert [path.name for path in files_below(tmp_path)] == [".set.gz.part"]


def test_a_folder_that_cannot_be_made_is_said_with_the_way_out(web, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    destination = tmp_path / "file" / "set.gz"
    message = complaint(web.url("set.gz"), destination)
    assert message.startswith(f"{destination} cannot be written (")
    assert message.endswith("); set CONVATLAS_DATA to a folder where it can")
    assert web.asked == []


def test_missing_page_names_the_address_and_the_way_out_and_leaves_nothing(web, tmp_path: Path) -> None:
    destination = tmp_path / "cache" / "set.gz"
    message = complaint(web.url("set.gz"), destination)
    assert message.startswith(f"{web.url('set.gz')} could not be fetched")
    assert message.endswith(f"check the network, or put the file at {destination} yourself")
    assert files_below(tmp_path) == []


def test_refused_connection_is_a_mistake_and_leaves_nothing(refusing: str, tmp_path: Path) -> None:
    message = complaint(refusing, tmp_path / "cache" / "set.gz")
    assert message.startswith(f"{refusing} could not be fetched")
    assert files_below(tmp_path) == []


def test_answer_cut_short_is_a_mistake_and_leaves_nothing_that_cannot_be_checked(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    web.cut_short.add("set.gz")
    message = complaint(web.url("set.gz"), tmp_path / "cache" / "set.gz")
    assert message.startswith(f"{web.url('set.gz')} could not be fetched")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("sends_parts", [True, False])
def test_a_download_that_broke_off_is_continued(sends_parts: bool, web, tmp_path: Path) -> None:
    content = CONTENT * 100
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    web.files["set.gz"], web.sends_parts = content, sends_parts
    web.cut_short.add("set.gz")
    message = complaint(web.url("set.gz"), tmp_path / "set.gz", checksum)
    kept = (tmp_path / ".set.gz.part").stat().st_size
    assert kept > len(content) / 4
    assert f"{tmp_path / '.set.gz.part'} is kept, and the next try continues" in message
    web.cut_short.clear()
    heard = Heard()
    destination = download(web.url("set.gz"), tmp_path / "set.gz", checksum=checksum, progress=heard)
    assert destination.read_bytes() == content
    assert web.sent == [len(content) // 2, len(content) - (kept if sends_parts else 0)]
    assert heard.told[0] == ("begin", "downloading set.gz", len(content), "bytes")
    assert sum(int(str(num)) for _, num in heard.told[1:-1]) == len(content)
    assert files_below(tmp_path) == [destination]


@pytest.mark.parametrize("part", [b"of another version", CONTENT[:100] + b"x", CONTENT + b"and more", CONTENT])
def test_half_a_file_of_another_version_is_fetched_anew(part: bytes, web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    (tmp_path / ".set.gz.part").write_bytes(part)
    destination = download(web.url("set.gz"), tmp_path / "set.gz", checksum=MD5)
    assert destination.read_bytes() == CONTENT
    assert files_below(tmp_path) == [destination]


def test_what_has_the_wrong_checksum_is_fetched_twice_at_most(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT[:-1]
    (tmp_path / ".set.gz.part").write_bytes(CONTENT[:100])
    assert complaint(web.url("set.gz"), tmp_path / "set.gz", MD5).endswith("(its checksum differs)")
    assert len(web.asked) == 2
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("failure", ["missing", "cut short", "other content"])
def test_failed_download_leaves_no_connection_open(failure: str, web, tmp_path: Path) -> None:
    if failure != "missing":
        web.files["set.gz"] = CONTENT
    if failure == "cut short":
        web.cut_short.add("set.gz")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        complaint(web.url("set.gz"), tmp_path / "set.gz", f"md5:{hashlib.md5(b'').hexdigest()}")
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize("url", ["no-address", "http://", "nonsense://127.0.0.1/set.gz"])
def test_address_that_is_none_is_a_mistake(url: str, tmp_path: Path) -> None:
    assert complaint(url, tmp_path / "set.gz").startswith(f"{url} could not be fetched")


def test_second_try_works_after_a_failure(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    web.cut_short.add("set.gz")
    complaint(web.url("set.gz"), tmp_path / "set.gz", MD5)
    web.cut_short.clear()
    assert download(web.url("set.gz"), tmp_path / "set.gz", checksum=MD5).read_bytes() == CONTENT


def test_the_library_prints_nothing(web, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    web.files["set.gz"] = CONTENT
    download(web.url("set.gz"), tmp_path / "set.gz")
    assert capfd.readouterr() == ("", "")


# Progress


@dataclass
class Heard:
    """What a callback is told."""

    told: list[tuple[object, ...]] = field(default_factory=list)

    def begin(self, title: str, total: int | None, unit: str) -> None:
        self.told.append(("begin", title, total, unit))

    def advance(self, num: int) -> None:
        self.told.append(("advance", num))

    def end(self) -> None:
        self.told.append(("end",))


def test_progress_is_told_from_begin_to_end(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    heard = Heard()
    download(web.url("set.gz"), tmp_path / "set.gz", progress=heard)
    assert heard.told[0] == ("begin", "downloading set.gz", len(CONTENT), "bytes")
    assert heard.told[-1] == ("end",)
    assert {name for name, *_ in heard.told[1:-1]} == {"advance"}
    assert sum(int(str(num)) for _, num in heard.told[1:-1]) == len(CONTENT)


def test_a_download_that_breaks_off_has_an_end_too(web, tmp_path: Path) -> None:
    web.files["set.gz"] = CONTENT
    web.cut_short.add("set.gz")
    heard = Heard()
    with pytest.raises(UserError):
        download(web.url("set.gz"), tmp_path / "set.gz", progress=heard)
    assert [name for name, *_ in heard.told].count("begin") == 1
    assert heard.told[-1] == ("end",)


def test_what_never_begins_has_no_end(refusing: str, tmp_path: Path) -> None:
    heard = Heard()
    with pytest.raises(UserError):
        download(refusing, tmp_path / "set.gz", progress=heard)
    assert heard.told == []
