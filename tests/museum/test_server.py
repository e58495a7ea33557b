"""The museum's own server: for this machine, and for a museum alone."""

from __future__ import annotations

import mimetypes
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.museum import MuseumServer
from convatlas.museum.folder import put


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("served")
    put(tmp_path / "site", {"index.html": b"<p>hello</p>", "a/b.js": b"var a;", "a/c.mjs": b"", "a/d.wasm": b""})
    (tmp_path / "secret").write_text("not yours")
    return tmp_path / "site"


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with MuseumServer(folder) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        yield server.address
        server.stop()
        thread.join()


def test_it_serves_pages_to_this_machine(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"<p>hello</p>"


def test_scripts_are_what_browsers_run_whatever_the_machine_calls_them(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_: ("text/plain", None))
    for name, kind in (("b.js", "text/javascript"), ("c.mjs", "text/javascript"), ("d.wasm", "application/wasm")):
        with urllib.request.urlopen(f"{address}a/{name}") as answer:
            assert answer.headers["Content-Type"] == kind


@pytest.mark.parametrize("path", ["nothing.html", "../secret", "..%2fsecret", "a/"])
def test_it_serves_nothing_else(address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address + path)


def test_a_folder_that_is_no_museum_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no museum .* convatlas museum build --out"):
        MuseumServer(tmp_path)


def test_a_port_that_is_taken_is_told(folder: Path) -> None:
    with MuseumServer(folder) as first:
        port = int(first.address.rstrip("/").rpartition(":")[2])
        with pytest.raises(UserError, match=f"port {port} cannot be used here"):
            MuseumServer(folder, port)
