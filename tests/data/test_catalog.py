"""What a person typed finds the data set that they meant, or says what is near."""

from pathlib import Path

import pytest

from convatlas.data import check_outside, find, is_standard, notes_on_name, portable_name
from convatlas.data.catalog import NAMED
from convatlas.data.folder import Folder
from convatlas.errors import UserError

NAMES = [source.name for source in NAMED]


def complaint(name: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        find(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_catalogue_has_each_set_once() -> None:
    assert sorted(NAMES) == [
        "cifar10", "cifar10-held-out", "cifar10-held-out-10k", "digits", "fashion-mnist", "mnist", "usps",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "side"),
    [("digits", 8), ("mnist", 28), ("usps", 16), ("cifar10", 32), ("cifar10-held-out", 32)],
)
def test_a_set_is_found_by_its_name_with_the_size_of_its_images(name: str, side: int) -> None:
    assert find(name).name == name
    assert find(name).native_side == side


@pytest.mark.parametrize("as_typed", [str, Path])
def test_a_folder_is_found_by_its_path(as_typed: type[str] | type[Path], tmp_path: Path) -> None:
    source = find(as_typed(tmp_path))
    assert source == Folder(tmp_path)
    assert source.name == str(tmp_path)
    assert source.native_side is None


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "images").mkdir()
    assert find("~/images") == Folder(tmp_path / "images")


def test_a_folder_beside_us_is_found_by_its_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flowers").mkdir()
    monkeypatch.chdir(tmp_path)
    assert isinstance(find("flowers"), Folder)


def test_a_folder_that_bears_a_sets_name_is_found_by_its_path_and_again_by_the_name_that_a_run_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    monkeypatch.chdir(tmp_path)
    source = find("./mnist")
    assert isinstance(source, Folder)
    assert isinstance(find(source.name), Folder)
    assert not isinstance(find("mnist"), Folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_bears_a_sets_name_is_told_of_where_the_set_was_meant(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert notes_on_name(name) == ()
    (tmp_path / name).mkdir()
    assert notes_on_name(name) == (
        f"{name} is the standard data set of that name; the folder {name} beside it is ./{name}",
    )
    assert notes_on_name(f"./{name}") == notes_on_name(tmp_path / name) == notes_on_name("flowers") == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_a_folder_that_bears_a_sets_name_does_not_take_the_set(name: str) -> None:
    assert portable_name(name) == name
    kept = portable_name(f"/somewhere/{name}")
    assert kept == portable_name(kept) == f"./{name}"
    assert is_standard(name)
    assert not is_standard(kept)


def test_nothing_is_written_where_images_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path / "images")
    for out in ("runs", tmp_path / "images" / "x.svg", "../images/x", "."):
        for data in (".", tmp_path / "images", f"hf:{tmp_path / 'images'}"):
            with pytest.raises(UserError, match=r"lies in the data .* name a place elsewhere with `out`"):
                check_outside(out, data)
    for data in (".", "digits", "hf:owner/name"):
        check_outside("../runs", data)
    check_outside("runs", "digits")
    assert list((tmp_path / "images").iterdir()) == []


def test_a_misspelt_name_is_answered_with_the_near_one() -> None:
    assert complaint("minst") == "there is no data set or folder 'minst'; did you mean mnist?"


def test_a_name_near_to_nothing_is_answered_with_all_that_are_known() -> None:
    message = complaint("zzz")
    assert message.startswith("there is no data set or folder 'zzz'; known are ")
    assert all(name in message for name in NAMES)


@pytest.mark.parametrize("as_typed", [str, Path])
def test_a_path_that_is_not_there_is_told_as_a_folder(as_typed: type[str] | type[Path], tmp_path: Path) -> None:
    assert complaint(as_typed(tmp_path / "nowhere")) == f"there is no folder {tmp_path / 'nowhere'}"


def test_a_file_is_told_what_is_read_instead(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"")
    expected = f"{tmp_path / 'a.zip'} is a file; images are read from a folder with a folder for each class"
    assert complaint(tmp_path / "a.zip") == expected


def test_an_empty_name_is_a_mistake_and_not_the_folder_we_are_in() -> None:
    complaint("")


def test_a_name_too_long_for_any_path_is_no_folder() -> None:
    with pytest.raises(UserError, match="there is no folder"):
        find("x" * 5000)
