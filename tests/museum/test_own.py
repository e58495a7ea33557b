"""A network that sees a person's own images in the page: what is put there, and that it answers as in Python."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from PIL import Image, ImageDraw

import convatlas as ca
from convatlas.deployment.manifest import MANIFEST, Manifest
from convatlas.errors import UserError
from convatlas.museum import MuseumServer, own, site
from convatlas.museum.folder import put
from convatlas.museum.own import PACKAGE, OwnImages, own_images, runtime_files

PAGES = Path(site.__file__).parent / "pages"
CLASSES = 10
IS_AWAKE = "!document.getElementById('awake').hidden || !document.getElementById('trouble').hidden"
IS_DONE = "document.getElementById('status').textContent === ''"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the names of the real one."""
    path = tmp_path / PACKAGE
    with tarfile.open(path, "w:gz") as archive:
        for name in own.MEMBERS:
            file = tmp_path / name
            file.write_text(name)
            archive.add(file, f"package/dist/{name}")
    monkeypatch.setattr(own, "CHECKSUM", f"sha512:{hashlib.sha512(path.read_bytes()).hexdigest()}")
    return path


def test_the_artefact_and_the_runtime_are_put_there(artefact: Path, package: Path) -> None:
    images = own_images(artefact, package)
    assert set(images.files) == {
        "own/artefact.json",
        "own/model.onnx",
        "own/preprocessing.onnx",
        *(f"runtime/{name}" for name in own.MEMBERS),
    }
    assert images.about["num_loaded"] == sum(map(len, images.files.values()))
    page = site.filled("own.html.jinja", "own.html", {"own": images.about}, None).decode()
    assert "<b>lenet5</b>" in page
    # Only here: no other page computes with WebAssembly or fetches anything.
    assert "'wasm-unsafe-eval'; connect-src 'self'" in page
    for name, values in (("live.html", {"trained": {}}), ("own.html", {"own": None})):
        empty = site.filled(f"{name}.jinja", name, values, None).decode()
        assert not any(words in empty for words in ("'wasm-unsafe-eval'", "connect-src", "blob:"))


def test_by_a_double_click_the_page_says_what_it_takes(
    browser: Any, artefact: Path, package: Path, tmp_path: Path
) -> None:
    put(tmp_path / "site", contents(own_images(artefact, package)))
    browser.open((tmp_path / "site" / "own.html").as_uri())
    browser.run("document.getElementById('wake').click()")
    browser.wait_for("!document.getElementById('trouble').hidden")
    assert "run convatlas museum open FOLDER, and open this page there" in trouble(browser)
    assert browser.errors == []
    assert not [one for one in browser.requests if "/runtime/" in one or "/own/" in one]


def test_another_package_is_told(package: Path) -> None:
    package.write_bytes(b"another")
    with pytest.raises(UserError, match=r"is not onnxruntime-web-.*: its checksum differs; https://registry"):
        runtime_files(package)
    with pytest.raises(UserError, match=r"there is no file .*nowhere.tgz; https://registry.npmjs.org/"):
        runtime_files(package.with_name("nowhere.tgz"))


def test_what_lies_in_the_cache_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_DATA", str(tmp_path))
    (tmp_path / "museum").mkdir()
    (tmp_path / "museum" / PACKAGE).write_bytes(b"another")
    with pytest.raises(UserError, match="its checksum differs"):
        runtime_files(None)


def test_an_artefact_that_no_browser_runs_is_told(
    artefact: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "MAX_BYTES", 1000)
    with pytest.raises(
        UserError, match=r"cannot see images in the museum: a file of .* is too large for a page, which loads 1,000"
    ):
        own_images(artefact, package)


Head = Literal["linear", "product", "two layers", "none"]


def gated(head: Head, num_images: int | str = "n") -> tuple[bytes, npt.NDArray[np.float32]]:
    """A network with a gate that averages too, and a classifier behind the average of the last maps; its weights."""
    generator = np.random.default_rng(0)
    channels = CLASSES if head == "none" else 8
    shapes = {"w1": (6, 3, 3, 3), "w2": (6, 6, 1, 1), "w3": (channels, 6, 3, 3), "w4": (CLASSES, channels)}
    if head == "product":
        shapes["w4"] = (channels, CLASSES)
    if head == "two layers":
        shapes |= {"w4": (CLASSES, channels), "w5": (CLASSES, CLASSES)}
    values = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    values["axes"] = np.array([-1, -2], np.int64)
    node = onnx.helper.make_node
    heads = {
        "linear": [node("Gemm", ["j", "w4"], ["logits"], transB=1)],
        "product": [node("MatMul", ["j", "w4"], ["logits"])],
        "two layers": [
            node("Gemm", ["j", "w4"], ["k"], transB=1),
            node("Relu", ["k"], ["l"]),
            node("Gemm", ["l", "w5"], ["logits"], transB=1),
        ],
        "none": [node("Identity", ["j"], ["logits"])],
    }
    nodes = [
        node("Conv", ["images", "w1"], ["a"], strides=[2, 2]),
        node("Relu", ["a"], ["b"]),
        node("GlobalAveragePool", ["b"], ["c"]),
        node("Conv", ["c", "w2"], ["d"]),
        node("Sigmoid", ["d"], ["e"]),
        node("Mul", ["b", "e"], ["f"]),
        node("Conv", ["f", "w3"], ["g"]),
        node("Relu", ["g"], ["h"]),
        node("ReduceMean", ["h", "axes"], ["i"]),
        node("Flatten", ["i"], ["j"]),
        *heads[head],
        node("Softmax", ["logits"], ["probabilities"]),
    ]
    kind, read = onnx.TensorProto.FLOAT, {name for each in nodes for name in each.input}
    graph = onnx.helper.make_graph(
        nodes,
        "gated",
        [onnx.helper.make_tensor_value_info("images", kind, [num_images, 3, 16, 16])],
        [onnx.helper.make_tensor_value_info(name, kind, [num_images, CLASSES]) for name in ("logits", "probabilities")],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items() if name in read],
    )
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)])
    return model.SerializeToString(), values["w4"]


PARSED = """
(() => {
    const read = onnx.read(Uint8Array.from(%s)), found = read.classMaps;
    const weights = found && found.weights && { ...found.weights, values: Array.from(found.weights.values) };
    const { inputs, first, bytes } = read;
    return { inputs, first, maps: found && found.maps, weights, bytes: Array.from(bytes) };
})()
"""


@pytest.fixture
def reader(browser: Any, tmp_path: Path) -> Any:
    """The browser on a page that reads ONNX files."""
    (tmp_path / "onnx.js").write_bytes((PAGES / "onnx.js").read_bytes())
    (tmp_path / "page.html").write_text('<!DOCTYPE html><title>test</title><script src="onnx.js"></script>')
    browser.open((tmp_path / "page.html").as_uri())
    return browser


@pytest.mark.parametrize("head", ["linear", "product", "none"])
def test_the_page_finds_the_maps_of_classes(reader: Any, head: Head) -> None:
    content, expected = gated(head)
    found = reader.run(PARSED % list(content))
    assert found["inputs"] == [{"name": "images", "isFloat": True, "shape": ["n", 3, 16, 16]}]
    assert (found["first"], found["maps"]) == ("a", "h")
    session = onnxruntime.InferenceSession(bytes(found["bytes"]), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).random((1, 3, 16, 16), np.float32)
    logits, _, first, maps = session.run(None, {"images": images})
    assert first.shape == (1, 6, 7, 7)
    means = maps.mean((2, 3))
    if head == "none":
        assert found["weights"] is None
        assert np.allclose(means, logits, atol=1e-5)
        return
    weights = np.array(found["weights"]["values"], np.float32).reshape(found["weights"]["shape"])
    assert found["weights"]["isTransposed"] == (head == "linear")
    assert np.array_equal(weights, expected)
    assert np.allclose(means @ (weights.T if head == "linear" else weights), logits, atol=1e-5)


def test_two_layers_behind_the_maps_have_no_map_of_a_class(reader: Any) -> None:
    found = reader.run(PARSED % list(gated("two layers")[0]))
    assert (found["first"], found["maps"], found["weights"]) == ("a", None, None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has no graph"),
        (b"\x08\x07", "it has no graph"),
        (b"\x3a\xff\xff", "it is cut short or no ONNX file"),
        (b"GIF89a", "no ONNX file"),
        (b"\xff" * 40, "no ONNX file"),
    ],
    ids=["empty", "no graph", "cut", "gif", "ones"],
)
def test_what_is_no_onnx_file_is_told(reader: Any, content: bytes, said: str) -> None:
    script = f"(() => {{ try {{ onnx.read(Uint8Array.from({list(content)})); }} catch (e) {{ return e.message; }} }})()"
    assert said in reader.run(script)


@pytest.fixture(scope="module")
def artefact(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that does not look for ink."""
    folder = tmp_path_factory.mktemp("artefact") / "lenet5"
    shutil.copytree(shipped, folder)
    manifest = Manifest.read(folder)
    preprocessing = replace(manifest.card.preprocessing, ink=None)
    manifest = replace(manifest, reframes_ink=False, card=replace(manifest.card, preprocessing=preprocessing))
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return folder


def contents(images: OwnImages) -> dict[str, bytes]:
    """A museum of this page alone."""
    look = {"colors": site.COLORS_OF_PAGES, "fonts": site.FONTS}
    return {
        "style.css": site.filled("style.css.jinja", "", look, None),
        "own.html": site.filled("own.html.jinja", "own.html", {"own": images.about}, None),
        **{name: (PAGES / name).read_bytes() for name in site.SCRIPTS},
        **images.files,
    }


@pytest.fixture(scope="module")
def served(artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page alone, with the real runtime."""
    folder = tmp_path_factory.mktemp("own") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVATLAS_DATA", str(folder.parent))
        images = own_images(artefact, None)
    put(folder, contents(images))
    with MuseumServer(folder) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        yield f"{server.address}own.html"
        server.stop()
        thread.join()


@pytest.fixture
def awake(browser: Any, served: str) -> Any:
    """The browser on the page, its network awake."""
    browser.open(served)
    assert not [one for one in browser.requests if "/runtime/" in one or "/own/" in one]
    browser.run("document.getElementById('wake').click()")
    browser.wait_for(f"({IS_AWAKE}) && {IS_DONE}")
    assert trouble(browser) == ""
    return browser


def trouble(browser: Any) -> str:
    return str(browser.run("document.getElementById('trouble').textContent"))


def answer(browser: Any, id: str, *paths: Path) -> None:
    browser.choose(id, *paths)
    browser.wait_for(IS_DONE)


def photograph(path: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).resize((width, height)).save(path)
    return path


@pytest.mark.network
def test_it_answers_as_the_artefact_does(awake: Any, artefact: Path, tmp_path: Path) -> None:
    model = ca.Artefact.open(artefact)
    for width, height in ((60, 90), (500, 300), (28, 28)):
        path = photograph(tmp_path / f"{width}.png", width, height)
        answer(awake, "image", path)
        told = told_classes(model, path)
        assert shown_classes(awake) == told
        assert awake.run("document.getElementById('best').textContent") == told[0].split()[0]
    assert awake.errors == []
    assert [one for one in awake.requests if not one.startswith(("http://127.0.0.1:", "blob:", "data:"))] == []


def shown_classes(browser: Any) -> list[str]:
    """What the page says of the most probable classes."""
    told: list[str] = browser.run("[...document.querySelectorAll('#classes button')].map(one => one.textContent)")
    return told


def told_classes(model: ca.Artefact, path: Path) -> list[str]:
    """The same of what Python finds."""
    (one,) = model.predict([path])
    pairs = zip(one.classes, one.probabilities, strict=True)
    return [f"{name}  {f'{100 * share:.1f}' if share >= 5e-4 else '< 0.1'} %" for name, share in pairs]


@pytest.mark.network
def test_dropped_networks_take_its_place(awake: Any, artefact: Path, tmp_path: Path) -> None:
    answer(awake, "image", photograph(tmp_path / "a.png", 80, 80))
    (tmp_path / "own.onnx").write_bytes(gated("linear")[0])
    answer(awake, "network", tmp_path / "own.onnx")
    assert (trouble(awake), awake.run("document.getElementById('who').textContent")) == ("", "own.onnx sees")
    assert "orange where it speaks for" in awake.run("document.getElementById('seen-text').textContent")
    assert not awake.run("document.getElementById('values-line').hidden")
    answer(awake, "network", *(artefact / name for name in ("artefact.json", "model.onnx", "preprocessing.onnx")))
    assert (trouble(awake), awake.run("document.getElementById('who').textContent")) == ("", "lenet5 sees")
    assert "no map for a class" in awake.run("document.getElementById('seen-text').textContent")


@pytest.mark.network
def test_it_reads_drawings_as_the_artefact_does(awake: Any, shipped: Path, tmp_path: Path) -> None:
    answer(awake, "network", *(shipped / name for name in ("artefact.json", "model.onnx", "preprocessing.onnx")))
    assert trouble(awake) == ""
    model = ca.Artefact.open(shipped)
    for side in (40, 900):
        path = tmp_path / f"{side}.png"
        drawing(side).save(path)
        answer(awake, "image", path)
        assert shown_classes(awake) == told_classes(model, path)
    Image.new("L", (50, 50), 240).save(tmp_path / "blank.png")
    answer(awake, "image", tmp_path / "blank.png")
    assert "blank.png is blank: there is no ink on it to read" in trouble(awake)


def drawing(side: int) -> Image.Image:
    """A bent stroke of dark ink on light paper."""
    image = Image.new("RGB", (side, side), (230, 225, 210))
    points = [(side * x // 20, side * y // 20) for x, y in ((5, 4), (13, 5), (9, 15))]
    ImageDraw.Draw(image).line(points, fill=(40, 30, 90), width=side // 12)
    return image


@pytest.mark.network
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_while_it_sees(
    awake: Any, axe: Callable[[], list[Any]], tmp_path: Path, theme: str
) -> None:
    awake.prefer(prefers_color_scheme=theme)
    (tmp_path / "own.onnx").write_bytes(gated("linear")[0])
    answer(awake, "network", tmp_path / "own.onnx")
    answer(awake, "image", photograph(tmp_path / "a.png", 80, 60))
    for width in (1280, 360):
        awake.resize(width, 900)
        assert axe() == [], width


@pytest.mark.network
def test_what_is_asked_for_at_once_is_done_in_order(awake: Any, tmp_path: Path) -> None:
    paths = [photograph(tmp_path / f"{side}.png", side, side) for side in (900, 30)]
    for path in paths:
        awake.choose("image", path)
    (tmp_path / "own.onnx").write_bytes(gated("linear")[0])
    awake.choose("network", tmp_path / "own.onnx")
    awake.wait_for(f"{IS_DONE} && document.getElementById('who').textContent === 'own.onnx sees'")
    assert "class " in awake.run("document.getElementById('best').textContent")
    assert (trouble(awake), awake.errors) == ("", [])


@pytest.mark.network
def test_awake_it_fits_a_telephone_and_takes_what_is_dropped(awake: Any) -> None:
    awake.resize(360, 900)
    awake.run(
        "(() => { const canvas = document.createElement('canvas'); canvas.width = canvas.height = 50;"
        " const files = new DataTransfer(); return new Promise((done) => canvas.toBlob((blob) => {"
        " files.items.add(new File([blob], 'dropped.png')); document.body.dispatchEvent("
        "new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: files })); done(); })); })()"
    )
    awake.wait_for("document.getElementById('best').textContent !== '–'")
    assert awake.run("document.documentElement.scrollWidth") <= 360
    assert (trouble(awake), awake.errors) == ("", [])


@pytest.mark.network
def test_what_cannot_be_used_says_why(awake: Any, artefact: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.onnx").write_text("no network")
    Image.new("L", (10_000, 5_000)).save(tmp_path / "large.png")
    (tmp_path / "eight.onnx").write_bytes(gated("linear", 8)[0])
    without = onnx.load_from_string(gated("linear")[0])
    del without.graph.output[:]
    without.graph.output.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, None))
    (tmp_path / "no-scores.onnx").write_bytes(without.SerializeToString())
    for id, path, said in (
        ("image", tmp_path / "text.png", "text.png is no image that this browser reads"),
        ("image", tmp_path / "large.png", "large.png has 50 megapixels; at most 40 are read here"),
        ("network", tmp_path / "text.onnx", "text.onnx cannot be used: it"),
        ("network", artefact / "preprocessing.onnx", "takes image (height x width x 3); a network for images takes"),
        (
            "network",
            artefact / "artefact.json",
            "model.onnx of the artefact is missing; choose artefact.json and its two",
        ),
    ):
        answer(awake, id, path)
        assert said in trouble(awake)
        assert awake.run("document.getElementById('who').textContent") == "lenet5 sees"
    # What was there before still works.
    answer(awake, "image", photograph(tmp_path / "a.png", 40, 40))
    assert trouble(awake) == ""
