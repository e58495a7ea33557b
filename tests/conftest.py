"""What the tests share: settings of hypothesis, the data sets of this machine, folders of images, a web
server, runs of every family that took no training, JSON with junk in it."""

from __future__ import annotations

import builtins
import copy
import gc
import http.server
import importlib.util
import math
import os
import random
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import convatlas as ca
from convatlas import atlas
from convatlas.compression.deep.codebook import share_weights
from convatlas.compression.deep.pruning import LAMP
from convatlas.files.typed_json import decoded
from convatlas.measure.table import build_without_memory
from convatlas.models.bounds import Room, check_numbers, describe
from convatlas.models.card import Score
from convatlas.models.evaluation import wilson_interval
from convatlas.models.folder import write_weights
from convatlas.runs.options import Runtime
from convatlas.runs.record import TrainingResults
from convatlas.runs.run import Run
from convatlas.spec import Scale, Variant
from convatlas.training import Progress, Request
from convatlas.training.distribution import Processes
from convatlas.training.plan import plan

# A busy machine must not turn a property into a failure. A property without a number of examples of its own gets these;
# the many are for slow tests, and for all of them with `scripts/check --hypothesis-profile full`.
settings.register_profile("few", deadline=None, max_examples=20)
settings.register_profile("full", deadline=None, max_examples=200)


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("few" if "not slow" in config.getoption("-m") else "full")
    # A look for garbage after each 700 new objects, of which a network has thousands, takes a fifth of the time.
    gc.set_threshold(10_000)


def pytest_collection_finish() -> None:
    # What was imported and collected lives to the end: to look through it for garbage takes a tenth of the time.
    gc.freeze()


def kinds_of_layers(network: nn.Module) -> frozenset[tuple[object, ...]]:
    """Its kinds of layers in their places, whatever their number and their widths."""
    return frozenset(
        (
            re.sub(r"\.\d+", "", name),
            type(layer),
            getattr(layer, "kernel_size", None),
            getattr(layer, "stride", None),
            getattr(layer, "groups", 1) > 1,
            getattr(layer, "bias", None) is not None,
        )
        for name, layer in network.named_modules()
    )


@cache
def structures() -> tuple[Variant, ...]:
    """Of variants with the same class of network, the same small stems and the same kinds of layers in their places,
    the one of fewest.

    They differ only in how many layers and channels there are, so what depends on neither is tested once for all of
    them; what the papers print of each is tested for every variant.
    """
    networks = [(variant, build_without_memory(variant.network, variant.spec)) for variant in atlas.variants()]
    found: dict[object, Variant] = {}
    for variant, network in sorted(networks, key=lambda pair: len(list(pair[1].modules()))):
        found.setdefault((variant.network, variant.spec.small_limits, kinds_of_layers(network)), variant)
    return tuple(found.values())


@cache
def scalings() -> tuple[Variant, ...]:
    """Of variants with the same class of spec and the same small stems, the last: scaling, and what sizes there are, is
    the spec's."""
    return tuple({(type(variant.spec), variant.spec.small_limits): variant for variant in atlas.variants()}.values())


def at_once(test: pytest.Item) -> list[pytest.Mark]:
    return list(test.iter_markers("at_once"))


def names_of(mark: pytest.Mark) -> tuple[str, ...]:
    names = mark.args[0]
    return tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else tuple(names)


def cases_of(mark: pytest.Mark) -> list[dict[str, Any]]:
    names, (_, *given) = names_of(mark), mark.args
    values = given[0] if given else {"structure": structures, "scaling": scalings}[names[0]]()
    assert values, "no case is no test"
    return [dict(zip(names, case if len(names) > 1 else (case,), strict=True)) for case in values]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs all cases of `at_once` in one test: an item costs more than a trivial check. A failure names its case."""
    marks = at_once(pyfuncitem)
    if not marks:
        return None
    given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for cases in product(*map(cases_of, marks)):
        case = {name: value for part in cases for name, value in part.items()}
        try:
            pyfuncitem.obj(**given | case)
        except Exception as error:
            named = {name: getattr(value, "name", value) for name, value in case.items()}
            error.add_note(f"in the case {named}")
            raise
    return True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `structure` runs for the variant of each structure, one that takes `structure_name` for its
    name, since hypothesis prints every argument of a failure; so with `scaling`. With the mark `few_structures` the
    default run has the first structure of each class of spec, and slow tests have all."""
    together = [name for mark in at_once(metafunc.definition) for name in names_of(mark)]
    if together:
        # Only so that pytest looks for no fixtures of these names.
        metafunc.parametrize(together, [(None,) * len(together)], ids=["all"])
    for kind, variants in (("structure", structures), ("scaling", scalings)):
        if kind in metafunc.fixturenames and kind not in together:
            metafunc.parametrize(kind, [pytest.param(one, marks=few(metafunc, one), id=one.name) for one in variants()])
        if f"{kind}_name" in metafunc.fixturenames:
            names = [pytest.param(one.name, marks=few(metafunc, one)) for one in variants()]
            metafunc.parametrize(f"{kind}_name", names)


def few(metafunc: pytest.Metafunc, variant: Variant) -> list[pytest.MarkDecorator]:
    """The mark `slow` for all structures but the first of each class of spec, where a test asks for few."""
    if metafunc.definition.get_closest_marker("few_structures") is None:
        return []
    return [] if variant.name in first_structures() else [pytest.mark.slow]


@cache
def first_structures() -> set[str]:
    return set({type(variant.spec): variant.name for variant in reversed(structures())}.values())


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")


# A shell's background job ignores Ctrl-C, and so would the commands that tests start and stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def any_device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU and a GPU in turn; on the GPU it is a test marked `gpu`."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def densenets() -> dict[str, Variant]:
    """The variants of the family that only the tests have, by name."""
    path = Path(__file__).with_name("networks") / "densenet.py"
    source = importlib.util.spec_from_file_location("densenet_of_the_tests", path)
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    # Its data classes look their own module up.
    sys.modules[source.name] = module
    source.loader.exec_module(module)
    return {variant.name: variant for variant in module.FAMILY.variants}


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


@pytest.fixture(scope="session", autouse=True)
def decoded_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no process that one starts, touches the cache of decoded images of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVATLAS_CACHE", str(tmp_path_factory.mktemp("decoded")))
        for limit in ("CONVATLAS_CACHE_LIMIT", "CONVATLAS_MAX_PIXELS"):
            patch.delenv(limit, raising=False)
        yield


NOT_DRAWN = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
draw_figure = Figure.savefig


@pytest.fixture(scope="session", autouse=True)
def neither_drawn_nor_synced() -> Iterator[None]:
    """A run in this process draws no plot and waits for no disk: more than half of the time of a short training.

    All code of ours runs; matplotlib leaves a file without content, and only a power cut would show a missing sync.
    Processes that a test starts do both, and whoever looks at a plot uses `drawn` or `drawing`.
    """

    def leave_empty(figure: Figure, file: Any, **options: Any) -> None:
        file.write(NOT_DRAWN)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", leave_empty)
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@contextmanager
def plots_drawn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", draw_figure)
        yield


@pytest.fixture(scope="session")
def drawing() -> Callable[[], AbstractContextManager[None]]:
    """Within `with drawing():` plots have their content."""
    return plots_drawn


@pytest.fixture
def drawn() -> Iterator[None]:
    """Plots have their content in this test."""
    with plots_drawn():
        yield


@pytest.fixture
def decoded_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of decoded images, in force for this test."""
    folder = tmp_path / "decoded"
    monkeypatch.setenv("CONVATLAS_CACHE", str(folder))
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for data sets, in force for this test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CONVATLAS_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def write_images() -> Callable[[Path, Mapping[str, Sequence[Image.Image]]], Path]:
    """`write_images(root, {"cat": [image, ...]})` writes `root/cat/000.png` and so on, and returns `root`."""

    def write(root: Path, classes: Mapping[str, Sequence[Image.Image]]) -> Path:
        for name, images in classes.items():
            (root / name).mkdir(parents=True)
            for i, image in enumerate(images):
                image.save(root / name / f"{i:03}.png")
        return root

    return write


class StopAt(Progress):
    """Sends this process a signal after a number of steps, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.left = step

    def advance(self, num_images: int) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="session")
def stop_at() -> Callable[[int], Progress]:
    """`stop_at(step)` is a progress that stops training after that step."""
    return StopAt


QUADRANTS = ((220, 30, 40), (30, 200, 60), (40, 50, 210), (255, 255, 255))
"""Of the scene: top left, top right, bottom left and bottom right."""
GRAYS = ((40,) * 3, (100,) * 3, (160,) * 3, (255,) * 3)


def scene(colors: Sequence[tuple[int, ...]]) -> Image.Image:
    """96 wide and 80 high, a color in each quarter."""
    image = Image.new("RGB", (96, 80))
    for place, color in zip(((0, 0), (48, 0), (0, 40), (48, 40)), colors, strict=True):
        image.paste(color, (*place, place[0] + 48, place[1] + 40))
    return image


def half_a_jpeg(path: Path) -> None:
    scene(QUADRANTS).save(path, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def too_large(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path)


def link_loop(path: Path) -> None:
    other = path.with_name(f".{path.name}.link")
    other.symlink_to(path.name)
    path.symlink_to(other.name)


def sixteen_bits(path: Path) -> None:
    gray = np.asarray(scene(GRAYS).convert("L")).astype(np.uint16)
    Image.fromarray(gray * 257).save(path)


def transparent_palette(path: Path) -> None:
    image = scene((*QUADRANTS[:3], (0, 0, 0))).quantize(8, dither=Image.Dither.NONE)
    index = image.getpixel((90, 70))
    image.save(path, transparency=index)


def animated(path: Path) -> None:
    scene(QUADRANTS).save(path, save_all=True, append_images=[Image.new("RGB", (96, 80))], lossless=True)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(QUADRANTS).transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "half.jpg": (half_a_jpeg, "damaged or cut short"),
    "page.jpg": (lambda path: path.write_text("<!DOCTYPE html><p>404"), "not an image of a known format"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "not an image of a known format"),
    "huge.png": (too_large, "larger than the limit of 89,478,485 pixels"),
    "loop.jpg": (link_loop, "a symbolic link that leads back to itself"),
}
ODD: dict[str, tuple[Callable[[Path], object], Sequence[tuple[int, ...]]]] = {
    "cmyk.jpg": (lambda path: scene(QUADRANTS).convert("CMYK").save(path, quality=95), QUADRANTS),
    "sixteen.png": (sixteen_bits, GRAYS),
    "palette.png": (transparent_palette, QUADRANTS),
    "animated.webp": (animated, QUADRANTS),
    "turned.jpg": (turned, QUADRANTS),
}


@dataclass(frozen=True)
class OddImages:
    unusable: dict[Path, str]
    """What must be said of each."""
    good: dict[Path, Sequence[tuple[int, ...]]]
    """The colors of each one's quarters."""

    def check_colors(self, path: Path, image: npt.NDArray[np.uint8]) -> None:
        """Fail unless that is what the file shows: (3, side, side)."""
        near, far = image.shape[-1] // 4, 3 * image.shape[-1] // 4
        places = ((near, near), (near, far), (far, near), (far, far))
        shown = [image[:, y, x].tolist() for y, x in places]
        for color, expected in zip(shown, self.good[path], strict=True):
            assert color == pytest.approx(expected, abs=8), (path, shown)


@pytest.fixture(scope="session")
def write_odd_images() -> Callable[[Path, int], OddImages]:
    """`write_odd_images(folder, 3)` writes thrice each of five files that are no images and five odd ones."""

    def write(folder: Path, num_each: int) -> OddImages:
        odd = OddImages({}, {})
        for number in range(num_each):
            for name, (make, reason) in UNUSABLE.items():
                path = folder / f"{number:03}-{name}"
                if number and make is too_large:
                    shutil.copy(folder / f"000-{name}", path)
                else:
                    make(path)
                odd.unusable[path] = reason
            for name, (make, colors) in ODD.items():
                make(path := folder / f"{number:03}-{name}")
                odd.good[path] = colors
        return odd

    return write


@dataclass
class Web:
    """A web server on this machine: what it answers at each path, and which paths were asked for."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    cut_short: set[str] = field(default_factory=set)
    """Paths of which half is sent, though the whole was promised."""
    asked: list[str] = field(default_factory=list)
    sends_parts: bool = True
    """Whether it sends the rest of a file to who has the beginning."""
    sent: list[int] = field(default_factory=list)
    """Bytes of each answer."""
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    """Further headers of the answer at a path."""

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
            begin = int(self.headers.get("Range", "bytes=0-")[6:-1]) if site.sends_parts else 0
            if begin >= len(content) > 0:
                self.send_error(416)
                return
            rest = content[begin:]
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(rest)))
            for name, value in site.headers.get(path, {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            sent = rest[: len(rest) // 2] if path in site.cut_short else rest
            site.sent.append(len(sent))
            self.wfile.write(sent)

        do_HEAD = do_GET  # noqa: N815

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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny networks on a busy machine, where threads would do little but wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


WIDTHS = {
    "lenet5": 1.0, "alexnet": 0.05, "vgg11": 0.05, "googlenet": 0.1, "resnet20-cifar": 0.25, "squeezenet": 0.1,
    "mobilenet": 0.1, "efficientnet-b0": 0.1,
}  # fmt: skip
"""One of each family."""
UNKNOWN = [family.variants[-1].name for family in ca.families() if not {v.name for v in family.variants} & {*WIDTHS}]
"""One of each family that comes in anew, narrow and shallow."""
WIDTHS |= dict.fromkeys(UNKNOWN, 0.5)
DEPTHS = {"resnet20-cifar": 0.34} | dict.fromkeys(UNKNOWN, 0.2)
"""One unit a stage has all kinds of layers."""


def untrained(name: str, folder: Path, seed: int = 0, compressed: bool = True) -> Run:
    """A run folder whose weights are as they begin, and whose results are made up."""
    scale = Scale(width=WIDTHS.get(name, 1.0), depth=DEPTHS.get(name, 1.0), resolution=28)
    request = Request(network=name, scale=scale, runtime=Runtime(autotune=False), seed=seed)
    planned = plan(request, Processes())
    folder.mkdir(parents=True)
    run = Run(folder, planned.card, planned.record)
    torch.manual_seed(seed)
    network = run.variant.network(run.spec)
    if compressed:
        LAMP(0.85).prune(network)
        share_weights(network, 4)
    score = Score(accuracy=177 / 355, interval=wilson_interval(177, 355), num_errors=178, num_images=355)
    results = TrainingResults(train_images=1442, skipped_images=0, epochs=1, best_epoch=None, seconds=1.0)
    run.card = replace(planned.card, score=score, weights_sha256=write_weights(folder, network))
    run.record = replace(planned.record, results=results)
    run.write()
    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """`finished("vgg11")` is a run folder of that network, pruned and with few values."""
    made: dict[tuple[str, int, bool], Run] = {}

    def run(name: str, seed: int = 0, compressed: bool = True) -> Run:
        key = name, seed, compressed
        if key not in made:
            made[key] = untrained(name, tmp_path_factory.mktemp("runs") / name, seed, compressed)
        return made[key]

    return run


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """`once(name, make)` is the folder that `make` filled, in whichever process of the tests asked for it first.

    No test may change it.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "once"

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        place = shared / name
        shared.mkdir(exist_ok=True)
        with FileLock(shared / f".{name}.lock"):
            if not place.exists():
                making = shared / f".{name}"
                make(making)
                making.rename(place)
        return place

    return folder


@pytest.fixture(scope="session")
def shipped(finished: Callable[..., Run], once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """An artefact of `finished("lenet5", compressed=False)` for ONNX Runtime, with the feature maps of c1 and f6."""

    def make(folder: Path) -> None:
        ca.export(finished("lenet5", compressed=False), "onnx", folder, outputs=["c1", "f6"])

    return once("shipped", make)


SLOW = ("googlenet", "efficientnet-b0")
"""Whose many small layers take a while to go through all stages."""


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in WIDTHS])
def family(request: pytest.FixtureRequest) -> str:
    """A network of each family in turn."""
    return str(request.param)


SOME = ("lenet5", "resnet20-cifar")
"""With layers of kinds of its own; with normalization and shortcuts."""


@pytest.fixture(params=[name if name in SOME else pytest.param(name, marks=pytest.mark.slow) for name in WIDTHS])
def some_family(request: pytest.FixtureRequest) -> str:
    """A network of two families in turn, for what takes long; slow tests have all."""
    return str(request.param)


@pytest.fixture
def no_range_coder(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, the library of the range coder is not installed."""
    imported: Callable[..., Any] = builtins.__import__

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "constriction":
            raise ImportError(name)
        return imported(name, *rest, **more)

    return lambda: monkeypatch.setattr(builtins, "__import__", importing)


def json_places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in JSON: what holds it, and under what."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from json_places(value[key])


@pytest.fixture(scope="session")
def places_in_json() -> Callable[[Any], Iterator[tuple[Any, Any]]]:
    """Every place in JSON: what holds it, and under what."""
    return json_places


MUTATIONS = [
    *(0, -1, 1, 2, 3, 7, 255, 2**16, 2**20, 2**31, 2**63, 10**30),
    *(0.5, -0.5, 1e-300, 1e300, math.nan, math.inf, True, None),
    *("", "x", "digits", "/", "..", "~", "/dev/zero", "a\0b", "\x1b[2J", "\ud800", "x" * 300, "x" * 100_000),
    *([], [[]], {}, {"x": 1}, [1] * 50, ["a", "b"]),
]
NAMES = ("spec", "spec", "spec", "preprocessing", "recipe", "score", "results", "runtime", "execution", "classes")
"""Of what is changed more often than the rest."""


def mutated_json(values: Any, draw: random.Random) -> None:
    """Change a card or a record here and there; and what describes a network, most often without contradictions."""
    parts = [name for name in NAMES if values.get(name)]
    part = values[draw.choice(parts)] if parts and draw.random() < 0.7 else values
    for _ in range(draw.choice((1, 1, 2, 3))):
        held, key = draw.choice(list(json_places(part)))
        with suppress(IndexError, KeyError):
            old = held[key]
            match draw.randrange(6):
                case 0:
                    del held[key]
                case 1 if isinstance(old, int):
                    held[key] = old * draw.choice((2, 10, 1000, 10**5)) + draw.choice((-1, 0, 1))
                case 2 if isinstance(old, list):
                    held[key] = old * draw.choice((2, 100))
                case 3 if isinstance(held, dict):
                    name = draw.choice(("x", "format", "kind", str(key)[1:], "\x1b[2J"))
                    held[name] = copy.deepcopy(draw.choice(MUTATIONS))
                case 4 if draw.random() < 0.1:
                    # Three times as deep can still be written.
                    for _ in range(draw.choice((5, 200))):
                        held[key] = [held[key]]
                case _:
                    held[key] = copy.deepcopy(draw.choice(MUTATIONS))
        if not list(json_places(part)):
            break
    if draw.random() < 0.8:
        with suppress(Exception):
            without_contradictions(values)


def without_contradictions(values: Any) -> None:
    """What else must be said of the network that is described: whoever means harm would."""
    spec = decoded(type(atlas.find(values["variant"]).spec), values["spec"])
    check_numbers(values["spec"])
    cost = describe(atlas.find(values["variant"]).network, spec, Room(10**7)).cost._asdict()
    # A record of earlier formats says the costs with its results.
    if "params" in values or values["results"]:
        (values if "params" in values else values["results"]).update(cost)
    preprocessing, side = values["preprocessing"], values["spec"]["resolution"]
    if "crop" in preprocessing:
        preprocessing |= {"resize": preprocessing["resize"] - preprocessing["crop"] + side, "crop": side}
    else:
        preprocessing["resolution"] = side


@pytest.fixture(scope="session")
def mutate_json() -> Callable[[Any, random.Random], None]:
    return mutated_json


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 40),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-1, 3), max_size=3),
    st.lists(st.lists(st.integers(0, 3), max_size=2), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@pytest.fixture(scope="session")
def put_junk() -> Callable[..., None]:
    """`put_junk(data, values, *more)` puts any JSON value, or one of the strategies `more`, at any place in JSON."""

    def put(data: st.DataObject, values: Any, *more: st.SearchStrategy[Any]) -> None:
        held, key = data.draw(st.sampled_from(list(json_places(values))))
        held[key] = data.draw(st.one_of(JUNK, *more))

    return put
