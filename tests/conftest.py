"""What the tests share: settings of hypothesis, the data sets of this machine, folders of pictures, a web server."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image

# A busy machine must not turn a property into a failure.
settings.register_profile("convatlas", deadline=None, max_examples=30)
settings.load_profile("convatlas")


@pytest.fixture(scope="session")
def needs_data() -> Callable[[str], Path]:
    """`needs_data("mnist")` is that set's folder below `CONVATLAS_DATA`; a test skips where it is not."""
    root = os.environ.get("CONVATLAS_DATA")

    def folder(name: str) -> Path:
        if not root:
            pytest.skip(f"reads the real {name}: CONVATLAS_DATA names no folder of data sets")
        if not (Path(root) / name).is_dir():
            pytest.skip(f"reads the real {name}: it is not in CONVATLAS_DATA")
        return Path(root) / name

    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for data sets, in force for this test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CONVATLAS_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def write_pictures() -> Callable[[Path, Mapping[str, Sequence[Image.Image]]], Path]:
    """`write_pictures(root, {"cat": [picture, ...]})` writes `root/cat/000.png` and so on, and returns `root`."""

    def write(root: Path, classes: Mapping[str, Sequence[Image.Image]]) -> Path:
        for name, pictures in classes.items():
            (root / name).mkdir(parents=True)
            for i, picture in enumerate(pictures):
                picture.save(root / name / f"{i:03}.png")
        return root

    return write


@dataclass
class Web:
    """A web server on this machine: what it answers at each path, and which paths were asked for."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    cut_short: set[str] = field(default_factory=set)
    """Paths of which half is sent, though the whole was promised."""
    asked: list[str] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            site.asked.append(path)
            if path not in site.files:
                self.send_error(404)
                return
            content = site.files[path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if path in site.cut_short else content)

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site = Web(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join()
