"""A drawing as SVG that reads on a light and on a dark page."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape, quoteattr

from convatlas.draw.drawing import Drawing, Edge, Junction, Plate, Rect, Shapes, TextLine
from convatlas.draw.outlines import COLORS, FACE, PAGE, Point, arrow_head, curve, faces, sign
from convatlas.formatting import visible

SCOPE = "architecture"
"""The class of the whole drawing, to which its style sheet is confined."""
FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def as_svg(drawing: Drawing) -> bytes:
    """The drawing as SVG. What stands for a layer or a module has its name in `data-layer`.

    Its style sheet and its ids are its own, so that several can stand in one page.
    """
    width, height = number(drawing.width), number(drawing.height)
    key = f"{zlib.crc32(f'{drawing.title} {drawing.description}'.encode()):08x}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            f' class="{SCOPE}" role="img" aria-labelledby="title-{key} text-{key}">',
            f'<title id="title-{key}">{shown(drawing.title)}</title>',
            f'<desc id="text-{key}">{shown(drawing.description)}</desc>',
            "<style>",
            *style({text.size for text in drawing.shapes.texts}),
            "</style>",
            f'<rect x=".5" y=".5" width="{number(drawing.width - 1)}" height="{number(drawing.height - 1)}" rx="10" '
            'class="page"/>',
            *elements(drawing.shapes),
            "</svg>",
            "",
        ]
    ).encode()


def style(sizes: Iterable[float]) -> Iterator[str]:
    colors = [*PAGE.items(), *COLORS.items()]
    for theme, rule in enumerate(("{}", "@media (prefers-color-scheme: dark) {{ {} }}")):
        values = " ".join(f"--{name}: {both[theme]};" for name, both in colors)
        yield rule.format(f".{SCOPE} {{ {values} }}")
    rules = {
        "text": f"font: 12px {FONTS}; fill: var(--ink)",
        **{f".f{number(size)}": f"font-size: {number(size)}px" for size in sorted(sizes)},
        ".m": "text-anchor: middle",
        ".e": "text-anchor: end",
        ".soft": "fill: var(--soft)",
        ".strong": "font-weight: 650",
        ".title": "font-weight: 700",
        ".stage": "fill: var(--stage)",
        ".unit": "fill: var(--unit); stroke: var(--edge)",
        ".w, .j": "fill: none; stroke: var(--line); stroke-width: 1.3",
        ".j": "fill: var(--page)",
        ".bar": "fill: var(--line)",
        ".o": "fill: none; stroke: var(--page); stroke-width: .8",
        **{f".{role}": f"fill: var(--{role})" for role in COLORS},
        ".page": "fill: var(--page); stroke: var(--edge)",
        ".b": f"stroke: var(--page); stroke-width: .5; fill-opacity: {FACE}",
    }
    for names, rule in rules.items():
        scoped = ", ".join(f".{SCOPE} {name}" for name in names.split(", "))
        yield f"{scoped} {{ {rule}; }}"


def elements(shapes: Shapes) -> Iterator[str]:
    for panel in shapes.panels:
        yield f'<rect {place(panel.rect)} rx="8" class="{panel.kind}"{named(panel.name)}/>'
    yield from edges(shapes.edges)
    for plate in shapes.plates:
        yield plate_element(plate)
    for one in shapes.junctions:
        yield junction_element(one)
    for text in shapes.texts:
        yield text_element(text)


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def shown(text: str) -> str:
    return escape(visible(text))


def named(name: str) -> str:
    return f" data-layer={quoteattr(visible(name))}" if name else ""


def place(rect: Rect) -> str:
    x, y, width, height = map(number, rect)
    return f'x="{x}" y="{y}" width="{width}" height="{height}"'


def at(point: Point) -> str:
    return f"{number(point[0])} {number(point[1])}"


def edges(drawn: Iterable[Edge]) -> Iterator[str]:
    """All lines as one element, and all arrows: hundreds of small ones take twice the bytes."""
    lines = "".join(line(edge) for edge in drawn)
    heads = "".join(f"M{'L'.join(map(at, arrow_head(edge)))}z" for edge in drawn if edge.arrow)
    yield f'<path d="{lines}" class="w"/>'
    yield f'<path d="{heads}" class="bar"/>'


def line(edge: Edge) -> str:
    start, *corners, end = curve(edge)
    parts = [f"M{at(start.end)}"]
    for corner in corners:
        parts.append(f"L{at(corner.start)}Q{at(corner.control)} {at(corner.end)}")
    return "".join([*parts, f"L{at(end.end)}"])


def plate_element(plate: Plate) -> str:
    parts = [f"<g{named(plate.name)}>"]
    if plate.tip:
        parts.append(f"<title>{shown(plate.tip)}</title>")
    # One element for all faces of a color.
    drawn: dict[str, str] = {}
    for role, points in faces(plate):
        drawn[role] = drawn.get(role, "") + f"M{'L'.join(map(at, points))}z"
    parts += (f'<path d="{outline}" class="{role} b"/>' for role, outline in drawn.items())
    for rect, role in plate.colors:
        parts.append(f'<rect {place(rect)} class="{role}"/>')
    if len(plate.colors) > 1:
        # Lines of the page's color between neighbors of one color.
        lines = "".join(
            f"M{number(x)} {number(y)}h{number(width)}v{number(height)}h{number(-width)}z"
            for (x, y, width, height), _ in plate.colors
        )
        parts.append(f'<path d="{lines}" class="o"/>')
    return "".join([*parts, "</g>"])


def junction_element(one: Junction) -> str:
    height = one.bottom - one.top
    if one.sign == "concat":
        return f'<rect {place(Rect(one.x - 3, one.top, 6, height))} rx="3" class="bar"{named(one.name)}/>'
    strokes = "".join(f"M{at(start)}L{at(end)}" for start, end in sign(one))
    circle = f'<circle cx="{number(one.x)}" cy="{number(one.top + height / 2)}" r="{number(height / 2)}" class="j"/>'
    return f'<g{named(one.name)}>{circle}<path d="{strokes}" class="w"/></g>'


def text_element(text: TextLine) -> str:
    anchor = {"start": "", "middle": "m", "end": "e"}[text.anchor]
    tone, size = "" if text.tone == "plain" else text.tone, "" if text.size == 12 else f"f{number(text.size)}"
    classes = " ".join(filter(None, (anchor, tone, size)))
    chosen = f' class="{classes}"' if classes else ""
    return f'<text x="{number(text.x)}" y="{number(text.y)}"{chosen}>{shown(text.text)}</text>'
