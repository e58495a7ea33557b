"""A drawing as TikZ, for a paper's figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from convatlas.draw.drawing import Drawing, Edge, TextLine
from convatlas.draw.outlines import COLORS, FACE, PAGE, Point, arrow_head, curve, faces, sign
from convatlas.formatting import visible

ESCAPED = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "×": r"\ensuremath{\times}",
        "·": r"\ensuremath{\cdot}",
        "…": r"\ldots{}",
        **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    }
)


def as_tikz(drawing: Drawing) -> bytes:
    """The drawing as a tikzpicture, one point for each pixel. It needs the package tikz."""
    colors = [*PAGE.items(), *COLORS.items()]
    lines = [
        f"% {visible(drawing.title)}",
        r"% \usepackage{tikz}, then \resizebox{\linewidth}{!}{\input{this file}}",
        *(rf"\definecolor{{cva-{name}}}{{HTML}}{{{light[1:].upper()}}}" for name, (light, _) in colors),
        r"\begin{tikzpicture}[x=1bp, y=-1bp, inner sep=0, outer sep=0, line width=1.3bp, font=\sffamily]",
        *elements(drawing),
        r"\end{tikzpicture}",
        "",
    ]
    return "\n".join(lines).encode()


def elements(drawing: Drawing) -> Iterator[str]:
    shapes = drawing.shapes
    for panel in shapes.panels:
        x, y, width, height = panel.rect
        border = "draw=cva-edge, line width=1bp" if panel.kind == "unit" else "draw=none"
        corners = f"{at((x, y))} rectangle {at((x + width, y + height))}"
        yield rf"\filldraw[fill=cva-{panel.kind}, {border}, rounded corners=8bp] {corners};"
    for edge in shapes.edges:
        yield rf"\draw[cva-line] {line(edge)};"
        if edge.arrow:
            yield rf"\fill[cva-line] {closed(arrow_head(edge))};"
    for plate in shapes.plates:
        for role, points in faces(plate):
            fill = f"fill=cva-{role}!{round(100 * FACE)}!cva-page"
            yield rf"\filldraw[{fill}, draw=cva-page, line width=.5bp] {closed(points)};"
        border = ", draw=cva-page, line width=.8bp" if len(plate.colors) > 1 else ""
        for (x, y, width, height), role in plate.colors:
            yield rf"\path[fill=cva-{role}{border}] {at((x, y))} rectangle {at((x + width, y + height))};"
    for one in shapes.junctions:
        if one.sign == "concat":
            corners = f"{at((one.x - 3, one.top))} rectangle {at((one.x + 3, one.bottom))}"
            yield rf"\fill[cva-line, rounded corners=3bp] {corners};"
            continue
        center, radius = at((one.x, (one.top + one.bottom) / 2)), number((one.bottom - one.top) / 2)
        yield rf"\filldraw[fill=cva-page, draw=cva-line] {center} circle[radius={radius}bp];"
        for start, end in sign(one):
            yield rf"\draw[cva-line] {at(start)} -- {at(end)};"
    for text in shapes.texts:
        yield node(text)


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def at(point: Point) -> str:
    return f"({number(point[0])},{number(point[1])})"


def closed(points: Iterable[Point]) -> str:
    return f"{' -- '.join(map(at, points))} -- cycle"


def line(edge: Edge) -> str:
    start, *corners, end = curve(edge)
    parts = [at(start.end)]
    for corner in corners:
        parts.append(f"-- {at(corner.start)} .. controls {at(corner.control)} .. {at(corner.end)}")
    return " ".join([*parts, f"-- {at(end.end)}"])


def node(text: TextLine) -> str:
    anchor = {"start": "base west", "middle": "base", "end": "base east"}[text.anchor]
    color = "soft" if text.tone == "soft" else "ink"
    weight = r"\bfseries" if text.tone in ("strong", "title") else ""
    # Sans serif faces of TeX are narrower than those of browsers, never wider.
    font = rf"\fontsize{{{number(text.size)}bp}}{{{number(text.size)}bp}}\selectfont{weight}"
    words = visible(text.text).translate(ESCAPED)
    return rf"\node[anchor={anchor}, cva-{color}, font=\sffamily{font}] at {at((text.x, text.y))} {{{words}}};"
