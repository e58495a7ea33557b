"""A drawing as PDF, for print: on white, one point for each pixel."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path

from convatlas.draw.drawing import Drawing, Edge, Rect, TextLine
from convatlas.draw.outlines import COLORS, FACE, PAGE, Point, arrow_head, curve, faces, sign
from convatlas.formatting import visible

POINTS_PER_INCH = 72
INK = {"plain": "ink", "strong": "ink", "title": "ink", "soft": "soft"}


def as_pdf(drawing: Drawing) -> bytes:
    """The drawing as PDF: the same bytes for the same drawing."""
    figure = Figure(figsize=(drawing.width / POINTS_PER_INCH, drawing.height / POINTS_PER_INCH))
    axes = figure.add_axes((0, 0, 1, 1), frameon=False)
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    axes.set_axis_off()
    draw(axes, drawing)
    buffer = io.BytesIO()
    metadata = {"Title": drawing.title, "Subject": drawing.description, "CreationDate": None}
    figure.savefig(buffer, format="pdf", metadata=metadata)
    return buffer.getvalue()


def draw(axes: Axes, drawing: Drawing) -> None:
    shapes = drawing.shapes
    line = light("line")
    for panel in shapes.panels:
        border = light("edge") if panel.kind == "unit" else "none"
        add(axes, rounded(panel.rect, 8), facecolor=light(panel.kind), edgecolor=border)
    for edge in shapes.edges:
        add(axes, PathPatch(path_of(edge)), facecolor="none", edgecolor=line, linewidth=1.3)
        if edge.arrow:
            add(axes, polygon(arrow_head(edge)), facecolor=line, edgecolor="none")
    for plate in shapes.plates:
        for role, points in faces(plate):
            add(axes, polygon(points), facecolor=faded(COLORS[role][0]), edgecolor=light("page"), linewidth=0.5)
        for rect, role in plate.colors:
            corner, width, height = (rect.x, rect.y), rect.width, rect.height
            border = light("page") if len(plate.colors) > 1 else "none"
            add(axes, Rectangle(corner, width, height), facecolor=COLORS[role][0], edgecolor=border, linewidth=0.8)
    for one in shapes.junctions:
        if one.sign == "concat":
            bar = Rect(one.x - 3, one.top, 6, one.bottom - one.top)
            add(axes, rounded(bar, 3), facecolor=line, edgecolor="none")
            continue
        center = (one.x, (one.top + one.bottom) / 2)
        add(axes, Circle(center, (one.bottom - one.top) / 2), facecolor=light("page"), edgecolor=line, linewidth=1.3)
        for stroke in sign(one):
            add(axes, PathPatch(Path(stroke)), facecolor="none", edgecolor=line, linewidth=1.3)
    for text in shapes.texts:
        write(axes, text)


def light(name: str) -> str:
    return PAGE[name][0]


def faded(color: str) -> tuple[float, ...]:
    """A color on white as a face has it."""
    return tuple(1 - FACE * (1 - int(color[i : i + 2], 16) / 255) for i in (1, 3, 5))


def add(axes: Axes, patch: Any, **colors: Any) -> None:
    patch.set(**{"linewidth": 1, **colors})
    # Not `add_patch`, which also looks how far the axes must reach: that is known.
    axes.add_artist(patch)


def rounded(rect: Rect, radius: float) -> FancyBboxPatch:
    style = f"round,pad=0,rounding_size={min(radius, rect.width / 2, rect.height / 2)}"
    return FancyBboxPatch((rect.x, rect.y), rect.width, rect.height, boxstyle=style)


def polygon(points: Sequence[Point]) -> Polygon:
    return Polygon(points, closed=True)


def path_of(edge: Edge) -> Path:
    start, *corners, end = curve(edge)
    points, codes = [start.end], [Path.MOVETO]
    for corner in corners:
        points += [corner.start, corner.control, corner.end]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*points, end.end], [*codes, Path.LINETO])


def write(axes: Axes, text: TextLine) -> None:
    axes.text(
        text.x,
        text.y,
        visible(text.text),
        fontsize=text.size,
        color=light(INK[text.tone]),
        weight="bold" if text.tone in ("strong", "title") else "normal",
        ha={"start": "left", "middle": "center", "end": "right"}[text.anchor],
        va="baseline",
        parse_math=False,
    )
