"""A small museum, built once: four networks, of which one has sliders, and a drawing format; and a browser."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from convatlas.museum import build, ideas, rooms, site
from convatlas.museum.exhibits import EXHIBITS, Exhibit, StopValues
from convatlas.museum.live import TITLES
from convatlas.runs.run import Run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
"""`npm install axe-core` in the repository's folder puts it there."""
SECONDS = 30
"""That the browser may take for one answer."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--no-first-run",
)


class Browser:
    """One page, with what it asked for and complained of."""

    def __init__(self) -> None:
        assert CHROMIUM, "Chromium is not installed"
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.loaded = False
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

    def __enter__(self) -> Self:
        read_in, self._out = os.pipe()
        self._in, write_out = os.pipe()
        # Chromium reads from 3 and writes to 4.
        command = f'exec 3<&{read_in} 4>&{write_out}; exec "$@"'
        arguments = [str(CHROMIUM), *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", *arguments], pass_fds=(read_in, write_out), stderr=subprocess.DEVNULL
        )
        os.close(read_in)
        os.close(write_out)
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
        self._profile.cleanup()

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result; events that come meanwhile are noted."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Page.loadEventFired":
                self.loaded = True
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"])[:600])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning"):
                self.errors.append(json.dumps(params["args"])[:600])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(json.dumps(params["entry"])[:600])

    def open(self, url: str) -> None:
        """Open a page and wait until its scripts have run."""
        self.requests.clear()
        self.errors.clear()
        self.loaded = False
        # Another place on the same page is no new document, and is not loaded.
        is_new = "loaderId" in self.send("Page.navigate", url=url)
        while is_new and not self.loaded:
            self._note(self._read())

    def wait_for(self, condition: str) -> None:
        """Until an expression in the page is true, which looks for it itself."""
        self.run(
            "new Promise((done, fail) => { const began = performance.now();"
            f" const look = () => ({condition}) ? done(true) : performance.now() - began > {1000 * SECONDS}"
            " ? fail(new Error('it does not become true')) : setTimeout(look, 20); look(); })"
        )

    def run(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it comes to."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, **features: str) -> None:
        """Media features, as prefers_color_scheme="dark"."""
        chosen = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=chosen)

    def press(self, key: str) -> None:
        """A key, as "Tab" or "ArrowRight"."""
        codes = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40, "Home": 36}
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def choose(self, id: str, *paths: Path) -> None:
        """Files in an input for files."""
        element = self.send("Runtime.evaluate", expression=f"document.getElementById('{id}')")["result"]["objectId"]
        self.send("DOM.setFileInputFiles", objectId=element, files=list(map(str, paths)))

    def drawing(self, path: Path) -> None:
        """What the page looks like, all of it."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with Browser() as one:
        yield one


@pytest.fixture
def axe(browser: Browser) -> Callable[[], list[list[Any]]]:
    """What axe finds serious on the page as it is: how much, which rule, how often, where first."""
    if not AXE.exists():
        pytest.skip("npm install axe-core")

    def findings() -> list[list[Any]]:
        browser.run(AXE.read_text() + ";0")
        text = browser.run(
            "axe.run().then(all => JSON.stringify(all.violations.map(one =>"
            "[one.impact, one.id, one.nodes.length, one.nodes[0].html.slice(0, 200)])))"
        )
        return [one for one in json.loads(text) if one[0] in ("serious", "critical")]

    return findings


SHOWN = ("lenet5", "vgg16", "mobilenet", "efficientnet-b0")


def exhibit(name: str) -> Exhibit:
    return next(one for one in EXHIBITS if one.name == name)


def without_sliders(one: Exhibit) -> Exhibit:
    """Its paper's own scale alone: stops take time."""
    return replace(one, stops=StopValues(width=(1,), depth=(1,), resolution=(one.variant.spec.resolution,)))


@contextmanager
def small_museums() -> Iterator[None]:
    """What is built meanwhile is small."""
    with pytest.MonkeyPatch.context() as patch:
        exhibits = [exhibit(name) for name in SHOWN]
        patch.setattr(site, "EXHIBITS", (exhibits[0], *map(without_sliders, exhibits[1:])))
        patch.setattr(ideas, "DEPTHS", (5, 10))
        patch.delitem(rooms.SUFFIXES, "pdf")
        yield


@pytest.fixture
def small() -> Iterator[None]:
    with small_museums():
        yield


@pytest.fixture(scope="session")
def lenets(finished: Callable[..., Run]) -> dict[str, Path]:
    """The networks that read live, as `build` takes them."""
    return {name.replace("-", "_"): finished(name, compressed=False).folder for name in TITLES}


@pytest.fixture(scope="session")
def museum(lenets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder, which no test may change."""
    with small_museums():
        return build(tmp_path_factory.mktemp("museum") / "site", **lenets).folder
