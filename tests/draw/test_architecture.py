"""Drawings of networks: nothing overlaps, everything is there, and every network has one."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font, LoadFlags
from torch import Tensor, nn

import convatlas as ca
from convatlas.draw.architecture import drawable, figures
from convatlas.draw.drawing import Drawing, Edge, Plate, Rect, Shapes, TextLine
from convatlas.draw.levels import LEVELS, Level
from convatlas.draw.page import page
from convatlas.draw.svg import as_svg
from convatlas.measure import structure_of, summarize
from convatlas.measure.table import build_without_memory, layers_of
from convatlas.spec import Variant

SVG = "{http://www.w3.org/2000/svg}"
MOST_BYTES = 200_000
WIDTH, SMALLEST_LETTERS = 1280, 11
"""Pixels of a screen, and of letters that are read on it."""
SLIDE = 720
HAIR = -0.5
"""What overlaps by less is rounding."""


def drawing_of(variant: Variant, level: Level) -> Drawing:
    structure = structure_of(build_without_memory(variant.network, variant.spec))
    return page([drawable(structure, level, variant.name, figures(structure))], level, variant.name)


def strokes(edge: Edge) -> Iterator[Rect]:
    for (x, y), (next_x, next_y) in pairwise(edge.points):
        yield Rect(min(x, next_x) - 0.6, min(y, next_y) - 0.6, abs(x - next_x) + 1.2, abs(y - next_y) + 1.2)


def conflicts(drawing: Drawing) -> list[str]:
    """Boxes and texts that overlap, that a line crosses, or that lie outside."""
    shapes, found = drawing.shapes, []
    rooms = sorted(
        [(plate.room, plate.name) for plate in shapes.plates] + [(text.rect, text.text) for text in shapes.texts],
        key=lambda pair: pair[0].x,
    )
    for i, (room, name) in enumerate(rooms):
        for other, beside in rooms[i + 1 :]:
            if other.x > room.x + room.width:
                break
            found += [f"{name} and {beside}"] if room.touches(other, HAIR) else []
        inner = Rect(room.x + 1, room.y, max(room.width - 2, 0.0), room.height)
        found += [f"a line and {name}" for edge in shapes.edges for one in strokes(edge) if inner.touches(one, HAIR)]
        inside = room.x >= 0 and room.y >= 0 and room.x + room.width <= drawing.width
        found += [] if inside and room.y + room.height <= drawing.height else [f"{name} outside"]
    return found


def check(drawing: Drawing, level: Level) -> None:
    """Fail unless it can be shown: small, without overlaps, and with letters that can be read on a screen."""
    assert conflicts(drawing) == []
    svg = as_svg(drawing)
    assert len(svg) < MOST_BYTES
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == drawing.title
    assert len(root.findtext(f"{SVG}desc") or "") > 40
    # Of a longer drawing, a part fills the screen; none is wider.
    shown = min(WIDTH / drawing.width, 1)
    assert min(text.size for text in drawing.shapes.texts) * shown >= SMALLEST_LETTERS
    if level == "overview":
        assert drawing.height <= SLIDE * drawing.width / WIDTH


COMPARED = ("lenet5", "googlenet", "mobilenet")
SAMPLE = ("lenet5", "alexnet", "vgg16", "googlenet", "resnet152", "squeezenet-complex-bypass", "efficientnet-b0")


@pytest.mark.at_once("name", SAMPLE)
@pytest.mark.at_once("level", LEVELS)
def test_nothing_overlaps(name: str, level: Level) -> None:
    check(drawing_of(ca.find(name), level), level)


@pytest.mark.at_once("level", LEVELS)
def test_a_family_that_the_package_does_not_know_is_drawn(level: Level, densenets: dict[str, Variant]) -> None:
    check(drawing_of(densenets["densenet40-cifar"], level), level)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_every_variant_is_drawn(level: Level, densenets: dict[str, Variant]) -> None:
    for variant in (*ca.variants(), *densenets.values()):
        check(drawing_of(variant, level), level)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_a_scaled_network_of_every_family_is_drawn(level: Level) -> None:
    for family in ca.families():
        variant = family.variants[0]
        for width, depth, resolution in ((0.5, 1.0, 64), (1.0, 2.0, None), (2.0, 1.0, None)):
            scaled = replace(variant, spec=variant.spec.scaled(width, depth, resolution))
            check(drawing_of(scaled, level), level)


def test_the_check_sees_what_overlaps() -> None:
    box = Plate(Rect(10, 30, 40, 20), (), "box", "", 4)
    text = TextLine(30, 60, "caption")
    line = Edge(((0, 40), (10, 40)))
    assert conflicts(Drawing(100, 100, "", "", Shapes([box], [text], [line]))) == []
    assert conflicts(Drawing(100, 100, "", "", Shapes([box], [replace(text, y=55)]))) == ["caption and box"]
    beside = replace(box, rect=Rect(52, 30, 40, 20), name="beside")
    assert conflicts(Drawing(100, 100, "", "", Shapes([box, beside]))) == ["box and beside"]
    crossing = Edge(((0, 0), (20, 0), (20, 99)))
    assert conflicts(Drawing(100, 100, "", "", Shapes([box], [], [crossing]))) == ["a line and box"]
    assert conflicts(Drawing(48, 100, "", "", Shapes([box]))) == ["box outside"]


@pytest.mark.at_once("name", SAMPLE)
def test_texts_are_as_wide_as_they_are_thought_to_be(name: str) -> None:
    fonts = {
        weight: FT2Font(findfont(FontProperties(family="DejaVu Sans", weight=weight))) for weight in ("normal", "bold")
    }
    for text in drawing_of(ca.find(name), "layers").shapes.texts:
        font = fonts["bold" if text.tone in ("strong", "title") else "normal"]
        font.set_size(text.size, 72)
        font.set_text(text.text, flags=LoadFlags.NO_HINTING)
        assert font.get_width_height()[0] / 64 <= text.rect.width + 1.5, text.text


def root_of(content: bytes) -> ET.Element:
    return ET.fromstring(content)


def names_in(root: ET.Element) -> list[str]:
    return [name for element in root.iter() if (name := element.get("data-layer"))]


def texts_in(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


@pytest.mark.at_once("name", ["lenet5", "alexnet", "googlenet", "squeezenet"])
def test_every_layer_can_be_found_by_its_name(name: str) -> None:
    variant = ca.find(name)
    found = set(names_in(root_of(ca.draw.architecture(ca.create(name, width=0.25), level="layers"))))
    assert {row.name for row in layers_of(variant.network, variant.spec.scaled(0.25))} <= found


def test_equal_units_are_drawn_once_with_their_number() -> None:
    network = ca.create("resnet34", width=0.125)
    for level in ("stages", "layers"):
        root = root_of(ca.draw.architecture(network, level=level))
        assert [text for text in texts_in(root) if text.startswith("×")] == ["×3", "×3", "×5", "×2"]
        assert {"stages.0.0", "stages.1.0", "stages.1.1"} <= set(names_in(root))
        assert not {"stages.0.1", "stages.1.2"} & set(names_in(root))
    overview = root_of(ca.draw.architecture(network))
    assert [text for text in texts_in(overview) if text.startswith("×")] == ["×3", "×4", "×6", "×3"]


def test_the_two_towers_stand_one_above_the_other() -> None:
    plates = [plate for plate in drawing_of(ca.find("alexnet"), "stages").shapes.plates if plate.name == "conv2.conv"]
    (upper, lower) = plates
    assert upper.rect.x == lower.rect.x
    assert upper.rect.y + upper.rect.height < lower.rect.y


def test_blocks_are_as_high_as_their_maps_and_as_wide_as_their_channels() -> None:
    plates = {plate.name: plate.rect for plate in drawing_of(ca.find("vgg16"), "stages").shapes.plates}
    first, last = plates["stages.0.0.conv"], plates["stages.4.0.conv"]
    # 224 and 14 pixels, 64 and 512 channels.
    assert first.height == pytest.approx(4 * last.height)
    assert last.width - first.width == pytest.approx(3 * (first.width - plates["input"].width) / (6 - 1.585), rel=0.01)


def test_networks_that_are_compared_share_a_scale() -> None:
    summaries = [summarize(ca.find(name)) for name in ("mobilenet", "lenet5")]
    root = root_of(ca.draw.architectures(summaries))
    images = [element.find(f"{SVG}rect") for element in root.iter(f"{SVG}g") if element.get("data-layer") == "input"]
    large, small = (float(image.get("height", "")) for image in images if image is not None)
    assert large / small == pytest.approx((224 / 32) ** 0.5, rel=0.01)
    assert "1998 · depth 5 · 60.0 K parameters · 327 K MACs · published error 0.95 % (MNIST)" in texts_in(root)
    assert root.findtext(f"{SVG}title") == "mobilenet, lenet5"


@pytest.mark.at_once("level", LEVELS)
def test_nothing_overlaps_where_networks_are_compared(level: Level) -> None:
    structures = {
        name: structure_of(build_without_memory(ca.find(name).network, ca.find(name).spec)) for name in COMPARED
    }
    networks = [drawable(structure, level, name, figures(structure)) for name, structure in structures.items()]
    assert conflicts(page(networks, level, "")) == []


def test_a_scaled_network_says_so_and_nothing_of_the_published_error() -> None:
    variant = ca.find("mobilenet")
    summary = summarize(variant, variant.spec.scaled(0.5, resolution=96))
    text = "".join(texts_in(root_of(ca.draw.architectures([summary]))))
    assert "2017 · scaled, 96 px · " in text
    assert "published" not in text


def test_a_cut_network_is_drawn_without_what_is_cut_off() -> None:
    network = ca.create("resnet18", width=0.25)
    network.fc = nn.Identity()
    assert "fc" not in names_in(root_of(ca.draw.architecture(network)))


def test_a_folded_network_is_drawn_without_normalization() -> None:
    network = ca.create("resnet18", width=0.125).eval()
    assert "BN" in texts_in(root_of(ca.draw.architecture(network, level="layers")))
    assert "BN" not in texts_in(root_of(ca.draw.architecture(ca.fold_batch_norm(network), level="layers")))


def test_it_is_drawn_the_same_while_nothing_is_learned() -> None:
    network = ca.create("lenet5")
    with torch.inference_mode():
        drawn = ca.draw.architecture(network)
    assert drawn == ca.draw.architecture(network)


def test_what_is_drawn_is_said_in_words() -> None:
    words = root_of(ca.draw.architecture(ca.create("resnet18"), title="R18")).findtext(f"{SVG}desc") or ""
    assert words.startswith(
        "R18: depth 18, 11.7 M parameters, 1.81 G MACs. An image of 3×224×224; 7×7 conv /2 to 64×112×112; "
        "3×3 max pool /2 to 64×56×56; 2 times Residual Unit to 64×56×56, its input led past it; "
    )
    assert words.endswith("avg pool to 512×1×1; FC 1000 to 1000.")
    towers = root_of(ca.draw.architecture(ca.create("alexnet", width=0.25))).findtext(f"{SVG}desc") or ""
    assert "2 branches side by side (11×11 conv /4 to 12×55×55; " in towers


def test_the_same_network_gives_the_same_drawing() -> None:
    network = ca.create("squeezenet", width=0.25)
    for file_format in ("svg", "tikz"):
        drawn = ca.draw.architecture(network, file_format=file_format)
        assert drawn == ca.draw.architecture(network, file_format=file_format)
        assert drawn != ca.draw.architecture(network, level="stages", file_format=file_format)


def test_it_loads_nothing_from_elsewhere() -> None:
    svg = ca.draw.architecture(ca.create("lenet5")).decode().replace("http://www.w3.org/2000/svg", "")
    assert not any(word in svg for word in ("http", "url(", "@import", "href", "<script"))
    assert "prefers-color-scheme: dark" in svg


def test_several_can_stand_in_one_page() -> None:
    roots = [root_of(ca.draw.architecture(ca.create(name, width=0.25))) for name in ("vgg11", "resnet18")]
    ids = [element.get("id") for root in roots for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) == 4
    for root in roots:
        title, words = (root.get("aria-labelledby") or "").split()
        assert {title, words} <= set(ids)
        rules = re.sub(r"@media \([^)]*\) \{ (.*) \}", r"\1", root.findtext(f"{SVG}style") or "")
        selectors = [name for names in re.findall(r"([^{}]+)\{", rules) for name in names.strip().split(", ")]
        assert all(name.startswith(".architecture") for name in selectors), selectors


@pytest.mark.usefixtures("drawn")
def test_a_pdf_is_one_page_and_the_same_each_time() -> None:
    network = ca.create("lenet5")
    pdf = ca.draw.architecture(network, file_format="pdf")
    assert pdf == ca.draw.architecture(network, file_format="pdf")
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 1
    assert b"/MediaBox [ 0 0 1280 720 ]" in pdf
    assert b"CreationDate" not in pdf


def test_tikz_is_balanced_and_escapes_what_latex_obeys() -> None:
    tikz = ca.draw.architecture(ca.create("lenet5"), title="50 % of a_b & {c}", file_format="tikz").decode()
    assert r"{50 \% of a\_b \& \{c\}};" in tikz
    lines = [line for line in tikz.splitlines() if not line.startswith("%")]
    plain = re.sub(r"\\[{}]", "", "\n".join(lines))
    assert plain.count("{") == plain.count("}")
    assert plain.count(r"\begin{tikzpicture}") == plain.count(r"\end{tikzpicture}") == 1
    assert all(line.endswith((";", "]", "}")) for line in lines)
    assert "×" not in tikz


def test_a_level_or_format_that_is_not_there_is_a_mistake() -> None:
    network = ca.create("lenet5")
    with pytest.raises(ca.UserError, match="there is no `level` slide; choose overview, stages or layers"):
        ca.draw.architecture(network, level="slide")
    with pytest.raises(ca.UserError, match="there is no drawing format png; choose svg, pdf or tikz"):
        ca.draw.architecture(network, file_format="png")


class Unusual(nn.Module):
    """What no network of the atlas has."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = replace(ca.find("lenet-300").spec, in_channels=3, resolution=32)
        first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(first, nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)))
        self.a, self.b, self.c = (nn.Conv2d(16, 16, kernel, padding=kernel // 2) for kernel in (1, 3, 5))
        self.groups = nn.Conv2d(16, 64, 3, padding=1, groups=8)
        self.fc = nn.Linear(64, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        x = torch.maximum(self.a(x), self.b(x))
        x = x + torch.relu(self.c(x))
        x = torch.stack([x, self.a(x), self.b(x)], 1).amax(1)
        logits: Tensor = self.fc(self.groups(x).mean((2, 3)))
        return logits


@pytest.mark.at_once("level", LEVELS)
def test_networks_of_ones_own_are_drawn(level: Level) -> None:
    drawing = page([drawable(structure := structure_of(Unusual()), level, "", figures(structure))], level, "")
    assert conflicts(drawing) == []
    # Operations that have no sign have their names.
    assert {"maximum", "stack", "another operation"} <= {text.text for text in drawing.shapes.texts}
    svg = as_svg(drawing).decode()
    assert "Re LU" not in svg
    assert ("8 groups" in svg) or level == "overview"


def words_of(paths: Sequence[Path]) -> set[str]:
    return {word.lower() for path in paths for word in re.findall(r"[A-Za-z]+\d*", path.read_text())}


def test_no_family_is_known_where_networks_are_drawn() -> None:
    package = Path(ca.__file__).parent
    sources = [package / "draw" / f"{name}.py" for name in (
        "architecture", "drawing", "layout", "levels", "outlines", "page", "pdf", "rows", "svg", "tikz"
    )]  # fmt: skip
    families = {family.name.lower() for family in ca.families()} | {"densenet"}
    assert not families & words_of(
        [*sources, package / "measure" / "graph.py", package / "measure" / "series_parallel.py"]
    )
