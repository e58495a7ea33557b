"""The museum in Chromium: no errors, nothing asked for elsewhere, no sideways scrolling, all of it by keyboard, and the
figures that Python counts. A sample runs by default where Chromium is installed, all of it with `-m browser`."""

from __future__ import annotations

import base64
import json
import random
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from convatlas import atlas, measure
from convatlas.formatting import count
from convatlas.museum import MuseumServer, build
from convatlas.museum.exhibits import EXHIBITS
from convatlas.museum.live import TITLES
from convatlas.runs.run import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(lenets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The museum with all its rooms and the results of this repository."""
    out = tmp_path_factory.mktemp("whole") / "site"
    return build(out, experiments=ROOT / "docs" / "experiments", **lenets).folder


def addresses(museum: Path) -> list[str]:
    return [path.as_uri() for path in sorted(museum.glob("*.html"))]


def look(browser: Any, address: str, width: int) -> None:
    """Fail if a page complains, asks for something elsewhere, or is wider than the window."""
    browser.resize(width, 900)
    browser.open(address)
    assert browser.errors == [], address
    folder = address.rpartition("/")[0]
    assert [one for one in browser.requests if not one.startswith((folder, "data:"))] == [], address
    assert browser.run("document.documentElement.scrollWidth") <= width, address


def test_pages_are_quiet_and_fit_a_telephone(browser: Any, museum: Path) -> None:
    for address in addresses(museum):
        look(browser, address, 360)


def test_a_click_on_a_layer_tells_its_figures(browser: Any, museum: Path) -> None:
    browser.open((museum / "lenet5.html").as_uri())
    browser.run(
        "document.querySelector('#diagram-overview [data-layer=c3] rect').dispatchEvent("
        "new MouseEvent('click', {bubbles: true}))"
    )
    told = browser.run("document.getElementById('layer-facts').textContent")
    assert re.search("16 x 10 x 10.*1,516.*", told)
    assert "of 32 x 32 px" in browser.run("document.getElementById('field-text').textContent")


def move(browser: Any, place: dict[str, int]) -> str:
    """Move sliders to their stops, and return what the page says then."""
    for name, index in place.items():
        browser.run(
            f"document.getElementById('{name}').value = {index};"
            f"document.getElementById('{name}').dispatchEvent(new Event('input'))"
        )
    return str(browser.run("document.getElementById('stop-facts').textContent"))


def check_stops(browser: Any, museum: Path, names: list[str], number: int) -> None:
    """Fail if the page's figures at random stops are not Python's."""
    chance = random.Random(1)
    for name in names:
        one = next(one for one in EXHIBITS if one.name == name)
        browser.open((museum / f"{name}.html").as_uri())
        axes = {axis: getattr(one.stops, axis) for axis in ("width", "depth", "resolution")}
        for _ in range(number):
            place = {axis: chance.randrange(len(values)) for axis, values in axes.items()}
            told = move(browser, place)
            scale = {axis: axes[axis][index] for axis, index in place.items()}
            table = measure.layers_of(one.variant.network, atlas.scale(one.variant, **scale))
            assert f"parameters{count(table.params)}" in told, (name, scale)
            assert f"MACs{count(table.macs)}" in told, (name, scale)
            bars = browser.run("document.querySelectorAll('#stop-drawing rect').length")
            assert bars == sum(row.macs > 0 for row in table), (name, scale)


def test_figures_at_some_stops_are_pythons(browser: Any, museum: Path) -> None:
    check_stops(browser, museum, ["lenet5"], 5)


def focus_by_keyboard(browser: Any) -> list[str]:
    """What the Tab key reaches, from the beginning of the page to its end."""
    browser.run("document.activeElement.blur(); scrollTo(0, 0)")
    reached: list[str] = []
    for _ in range(400):
        browser.press("Tab")
        where = browser.run(
            "(() => {const one = document.activeElement; if (one === document.body) return '';"
            "const all = [...document.querySelectorAll('*')]; return all.indexOf(one) + ' ' + one.tagName +"
            "' ' + (one.id || one.textContent.trim().slice(0, 30) || one.getAttribute('aria-label') || '')})()"
        )
        if not where or where in reached:
            break
        reached.append(where)
    return reached


def test_a_room_can_be_used_by_keyboard(browser: Any, museum: Path) -> None:
    browser.resize(1280, 900)
    browser.open((museum / "lenet5.html").as_uri())
    reached = " ".join(focus_by_keyboard(browser))
    for name in ("Skip to the content", "level-overview", "diagram-overview", "layer", "width", "depth", "resolution"):
        assert name in reached
    browser.run("document.getElementById('width').focus()")
    before = browser.run("document.getElementById('stop-facts').textContent")
    browser.press("ArrowRight")
    assert browser.run("document.getElementById('width-value').textContent") == "1.5"
    assert browser.run("document.getElementById('stop-facts').textContent") != before
    browser.run("document.getElementById('level-overview').focus()")
    browser.press("ArrowRight")
    assert browser.run("getComputedStyle(document.getElementById('diagram-stages')).display") == "block"


def test_a_page_reads_without_javascript(browser: Any, museum: Path) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open((museum / "lenet5.html").as_uri())
        seen = browser.run("document.body.innerText")
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert "340,908" in seen
    assert "Every stop is a network" in seen
    assert "As the paper" not in seen


def test_a_drawing_can_be_taken_along_as_it_is(browser: Any, museum: Path) -> None:
    browser.open((museum / "ideas.html").as_uri())
    text = browser.run("svgFile(document.getElementById('filters-drawing'))")
    root = ElementTree.fromstring(text)
    assert root.get("width") == "640"
    assert "var(" not in text
    assert "7x7: 200,704" in "".join(root.itertext())


def test_live_networks_answer_as_in_pytorch(browser: Any, museum: Path, finished: Callable[..., Run]) -> None:
    browser.open((museum / "live.html").as_uri())
    assert not any("data/live.js" in one for one in browser.requests)
    browser.run("document.getElementById('wake').click()")
    browser.wait_for("typeof LIVE !== 'undefined' && !document.getElementById('live').hidden")
    for name in TITLES:
        model = finished(name, compressed=False).model
        images = torch.rand(3, 1, model.spec.resolution, model.spec.resolution) * 1.275 - 0.1
        with torch.no_grad():
            expected = model.network(images)
        for image, outputs in zip(images, expected, strict=True):
            told = browser.run(f"makeReader(LIVE['{name}'])({json.dumps(image.flatten().tolist())}).outputs")
            assert told == pytest.approx(outputs.tolist(), abs=1e-4), name


def test_a_drawing_is_read_as_predict_reads_it(
    browser: Any, museum: Path, finished: Callable[..., Run], tmp_path: Path
) -> None:
    model = finished("lenet5", compressed=False).model
    browser.open((museum / "live.html").as_uri())
    browser.run("document.getElementById('wake').click()")
    browser.wait_for("typeof LIVE !== 'undefined' && !document.getElementById('live').hidden")
    browser.resize(360, 900)
    for digit in (3, 7):
        browser.run(f"document.querySelectorAll('#samples button')[{digit}].click()")
        drawn = browser.run("document.getElementById('pen').toDataURL()")
        path = tmp_path / f"{digit}.png"
        path.write_bytes(base64.b64decode(drawn.partition(",")[2]))
        array = torch.from_numpy(model.preprocessing.prepare(path))[None]
        with torch.no_grad():
            distances = (-model.network(array)[0]).tolist()
        told = browser.run("[...document.querySelectorAll('#distances text')].map(one => one.textContent)")
        assert [float(one) for one in told[1::2]] == pytest.approx(distances, abs=0.11)
        assert browser.run("document.getElementById('reads').textContent") == str(distances.index(min(distances)))
        for beside in ("lenet1989", "lenet5-modern"):
            (answer,) = finished(beside, compressed=False).model.predict([path])
            assert browser.run(f"document.getElementById('reads-{beside}').textContent") == answer.classes[0]
        # The best of several: other programs run beside.
        again = f"document.querySelectorAll('#samples button')[{digit}].click()"
        took = [browser.run(f"{again}; document.getElementById('took').textContent") for _ in range(10)]
        assert min(float(text.split()[1]) for text in took) < 50
        assert browser.run("document.documentElement.scrollWidth") <= 360
    assert browser.errors == []


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_is_quiet_and_fits(browser: Any, whole: Path, width: int, theme: str) -> None:
    browser.prefer(prefers_color_scheme=theme, prefers_reduced_motion="reduce")
    for address in addresses(whole):
        look(browser, address, width)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, axe: Callable[[], list[Any]], whole: Path, theme: str) -> None:
    browser.prefer(prefers_color_scheme=theme)
    for address in addresses(whole):
        for width in (1280, 360):
            browser.resize(width, 900)
            browser.open(address)
            browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
            if address.endswith("live.html"):
                browser.run("document.getElementById('wake').click()")
                browser.wait_for("!document.getElementById('live').hidden")
                browser.run("document.querySelectorAll('#samples button')[3].click()")
            assert axe() == [], (address, width)


@pytest.mark.browser
def test_the_first_view_from_a_server_takes_less_than_a_second(browser: Any, whole: Path) -> None:
    browser.resize(1280, 900)
    with MuseumServer(whole) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            browser.open(server.address)
            assert browser.errors == []
            assert all(one.startswith((server.address, "data:")) for one in browser.requests)
            assert browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd") < 1000
        finally:
            server.stop()
            thread.join()


@pytest.mark.browser
def test_every_room_can_be_toured_by_keyboard(browser: Any, whole: Path) -> None:
    browser.resize(1280, 900)
    for address in addresses(whole):
        browser.open(address)
        reachable = browser.run(
            "[...document.querySelectorAll('a[href], button, select, summary, input')].filter(one =>"
            "one.checkVisibility() && (one.type !== 'radio' || one.checked)).length"
        )
        reached = [one for one in focus_by_keyboard(browser) if one.split()[1] != "DIV"]
        assert len(reached) >= min(reachable, 400) - 1, address


@pytest.mark.browser
def test_figures_at_two_hundred_stops_are_pythons(browser: Any, whole: Path) -> None:
    check_stops(browser, whole, [one.name for one in EXHIBITS], 25)
