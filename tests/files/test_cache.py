"""Where data sets and decoded images are kept."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files import cache_folder, decoded_folder


def test_the_environment_names_the_folder_and_it_need_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATLAS_DATA", str(tmp_path / "sets"))
    assert cache_folder() == tmp_path / "sets"
    assert not (tmp_path / "sets").exists()


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("CONVATLAS_DATA", "~/sets")
    assert cache_folder() == tmp_path / "sets"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_name_it_is_the_platforms_cache_folder(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVATLAS_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("CONVATLAS_DATA", value)
    assert cache_folder().is_absolute()
    assert "convatlas" in cache_folder().parts


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is Linux's")
def test_on_linux_it_follows_the_desktops_own_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVATLAS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "convatlas"


def test_decoded_images_have_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "decoded"))
    assert decoded_folder() == tmp_path / "decoded"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CONVATLAS_CACHE", "~/mine")
    assert decoded_folder() == tmp_path / "mine"
    for value in (None, ""):
        monkeypatch.delenv("CONVATLAS_CACHE", raising=False)
        if value is not None:
            monkeypatch.setenv("CONVATLAS_CACHE", value)
        assert decoded_folder().name == "decoded"
        assert tmp_path / "sets" not in decoded_folder().parents


@pytest.mark.skipif(sys.platform == "win32", reason="there the home folder of every name is guessed")
@pytest.mark.parametrize("folder", [cache_folder, decoded_folder])
def test_without_a_home_folder_one_line_says_what_to_set(
    folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CONVATLAS_DATA", "CONVATLAS_CACHE"):
        monkeypatch.setenv(variable, "~nobody of that name/cache")
    with pytest.raises(UserError, match="no home folder is known for the cache; set CONVATLAS_CACHE and"):
        folder()
