"""The museum as a folder of files, which appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files as package_files
from pathlib import Path
from urllib.parse import urlsplit

from convatlas.draw import comparison
from convatlas.draw.pages import render_page
from convatlas.errors import UserError
from convatlas.experiments.engine.child_process import ChildProcess
from convatlas.files import SILENT, ProgressCallback
from convatlas.files.progress import reported
from convatlas.models.card import installed_versions
from convatlas.models.model import Model
from convatlas.museum.comparing import compared, pair_drawings
from convatlas.museum.exhibits import EXHIBITS
from convatlas.museum.folder import check_free, put
from convatlas.museum.ideas import gradient_data, idea_data, scaling_data
from convatlas.museum.live import live_data, live_models, trained
from convatlas.museum.look import COLORS_OF_PAGES, FONTS
from convatlas.museum.own import OwnImages, own_images
from convatlas.museum.results import ResultsPage, results_page
from convatlas.museum.rooms import NetworkRoom, drawings, room_data
from convatlas.museum.stops import all_stop_data, script
from convatlas.museum.timeline import timeline_values

PACKAGE = "convatlas.museum"
PAGES = {
    "index.html": "Timeline",
    "compare.html": "Compare two",
    "ideas.html": "Ideas",
    "experiments.html": "Experiments",
    "live.html": "Live",
    "own.html": "Your images",
}
"""Besides the rooms of networks."""
SCRIPTS = ("museum.js", "room.js", "compare.js", "ideas.js", "ink.js", "maps.js", "live.js", "onnx.js", "own.js")


@dataclass(frozen=True, kw_only=True)
class Built:
    """A museum that was built."""

    folder: Path
    num_files: int
    num_bytes: int


def build(
    out: str | Path,
    *,
    experiments: str | Path | None = None,
    lenet5: str | Path | None = None,
    lenet1989: str | Path | None = None,
    lenet5_modern: str | Path | None = None,
    artefact: str | Path | None = None,
    onnxruntime_web: str | Path | None = None,
    docs: str | None = None,
    progress: ProgressCallback = SILENT,
) -> Built:
    """Build the museum: pages that need nothing beside their folder, for a browser or any static host.

    Args:
        out: the folder; one that holds an earlier museum is replaced.
        experiments: folder of results, as from `experiments.run_all`. None: the page of experiments says what each
            statement asks, without results.
        lenet5: a run or model of `lenet5`, trained on digits, which reads what a person draws. None: the page says how
            to get one.
        lenet1989: likewise of `lenet1989`, to read beside it.
        lenet5_modern: likewise of `lenet5-modern`.
        artefact: for ONNX Runtime, as from `convatlas.export`: it sees a person's own images, and so does any ONNX file
            that is dropped there. None: the page says how to get one.
        onnxruntime_web: file of the npm package that runs it in browsers. None: it is downloaded, once.
        docs: address of documentation, as "../index.html" or "https://example.org/", that every page links to.
        progress: told of each file.

    Raises:
        UserError: the folder holds something else, `experiments` no results or damaged ones, a model or the artefact
            is another than asked, `onnxruntime_web` cannot be had or is another file, or `docs` is no address of a
            page.
    """
    folder = Path(out)
    check_free(folder)
    if docs is not None:
        check_address(docs)
    if onnxruntime_web is not None and artefact is None:
        raise UserError(f"{onnxruntime_web} runs an artefact in the page; give one")
    contents = {}
    process = ChildProcess(num_threads=1)
    try:
        # Half of the work, beside all other.
        stops = process.begin(all_stop_data, EXHIBITS)
        # First what may be wrong, and of it last what may be downloaded: the rest takes longer.
        models = live_models({"lenet5": lenet5, "lenet1989": lenet1989, "lenet5-modern": lenet5_modern})
        results = results_page(None if experiments is None else Path(experiments))
        own = None
        if artefact is not None:
            own = own_images(Path(artefact), None if onnxruntime_web is None else Path(onnxruntime_web), progress)
        with reported(progress, "building the museum", None, "files") as advance:
            for name, content in all_files(stops, results, models, own, docs):
                contents[name] = content
                advance(1)
    finally:
        process.kill()
    put(folder, contents)
    return Built(folder=folder, num_files=len(contents), num_bytes=sum(map(len, contents.values())))


def check_address(docs: str) -> None:
    """
    Raises:
        UserError: a link to it would not lead to a page.
    """
    try:
        address = urlsplit(docs)
        is_page = address.scheme in ("", "http", "https") and bool(address.path or address.netloc)
    except ValueError:
        is_page = False
    if not is_page:
        raise UserError(f"{docs!r} is no address of a page; give one like ../index.html or https://example.org/")


def all_files(
    all_stops: Callable[[], list[dict[str, object]]],
    results: ResultsPage,
    models: Mapping[str, Model],
    own: OwnImages | None,
    docs: str | None,
) -> Iterator[tuple[str, bytes]]:
    """The files of the museum, by their paths in its folder.

    Args:
        all_stops: waits for the stops of the exhibits.
    """
    page = partial(filled, docs=docs)
    rooms = [NetworkRoom.of(exhibit) for exhibit in EXHIBITS]
    ideas = idea_data()
    yield "style.css", page("style.css.jinja", "", {"colors": COLORS_OF_PAGES, "fonts": FONTS})
    for name in SCRIPTS:
        yield name, package_files(PACKAGE).joinpath("pages", name).read_bytes()
    yield "index.html", page("index.html.jinja", "index.html", timeline_values(rooms))
    # The README's drawing is this one.
    yield "families.svg", comparison([room.summary for room in rooms])
    for number, room in enumerate(rooms):
        values: dict[str, object] = {
            "room": room,
            "before": rooms[number - 1] if number else None,
            "after": rooms[number + 1] if number + 1 < len(rooms) else None,
        }
        yield room.page, page("room.html.jinja", room.page, values)
        yield from drawings(room)
    yield "compare.html", page("compare.html.jinja", "compare.html", compared(rooms))
    yield from pair_drawings(rooms)
    surface: dict[str, object] = {}
    for room, stops in zip(rooms, all_stops(), strict=True):
        yield f"data/{room.exhibit.name}.js", script("ROOM", room_data(room)) + script("STOPS", stops)
        if room.exhibit.name == "efficientnet-b0":
            surface = scaling_data(stops)
    moving = {"surface": surface, "gradients": gradient_data()}
    yield "ideas.html", page("ideas.html.jinja", "ideas.html", {"ideas": ideas, **moving})
    yield "data/ideas.js", script("IDEAS", {**ideas, **moving})
    yield "experiments.html", page("experiments.html.jinja", "experiments.html", results.values)
    yield from results.charts.items()
    shown = {name: trained(model) for name, model in models.items()}
    yield "live.html", page("live.html.jinja", "live.html", {"trained": shown})
    if models:
        yield "data/live.js", script("LIVE", {name: live_data(model) for name, model in models.items()})
    yield "own.html", page("own.html.jinja", "own.html", {"own": None if own is None else own.about})
    if own is not None:
        yield from own.files.items()


def filled(template: str, name: str, values: dict[str, object], docs: str | None) -> bytes:
    """A template of the museum, filled in.

    Args:
        name: of the page's file, which the navigation marks as the current one.
        docs: address of the documentation, if there is one.
    """
    common = {
        "pages": PAGES,
        "exhibits": EXHIBITS,
        "titles": {exhibit.name: exhibit.title for exhibit in EXHIBITS},
        "current": name,
        "docs": docs,
        "version": installed_versions()["convatlas"],
    }
    return render_page(PACKAGE, f"pages/{template}", common | values)
