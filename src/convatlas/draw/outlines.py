"""Lines, faces and signs of a drawing as points, for every kind of file; and its colors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from convatlas.draw.drawing import Edge, Junction, Plate, Role

Point = tuple[float, float]

CORNER = 6
"""Pixels of the rounded corners of lines."""
ARROW = (7.0, 2.8)
"""Pixels of an arrow's length, and of half its width."""
FACE = 0.6
"""How much of its color the upper and right faces of a plate have."""

COLORS: dict[Role, tuple[str, str]] = {
    "convolution": ("#0072b2", "#3b9ede"),
    "pointwise": ("#56b4e9", "#8fd0f5"),
    "depthwise": ("#009e73", "#2fc79b"),
    "pooling": ("#d55e00", "#f08c4a"),
    "normalization": ("#cc79a7", "#dd9bbf"),
    "connected": ("#e69f00", "#f2bc4b"),
    "other": ("#7a8490", "#9aa5b1"),
    "input": ("#c3cad2", "#56616d"),
}
"""On a light and on a dark page; after Okabe and Ito 2008, so that color-blind readers tell them apart."""
PAGE: dict[str, tuple[str, str]] = {
    "page": ("#ffffff", "#12171e"),
    "stage": ("#f3f5f8", "#1a212a"),
    "unit": ("#ffffff", "#12171e"),
    "edge": ("#d0d6dd", "#343d48"),
    "ink": ("#1c2430", "#e8ecf1"),
    "soft": ("#56616d", "#a3afbc"),
    "line": ("#6b7682", "#8d99a6"),
}


class Corner(NamedTuple):
    """A rounded corner of a line, and each of its ends as a corner of no size."""

    start: Point
    control: Point
    end: Point


def curve(edge: Edge) -> Iterator[Corner]:
    """A line: where it begins, its corners, where it ends."""
    points = [*edge.points[:-1], line_end(edge)]
    yield Corner(points[0], points[0], points[0])
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        yield Corner(toward(corner, before, CORNER), corner, toward(corner, after, CORNER))
    yield Corner(points[-1], points[-1], points[-1])


def toward(point: Point, other: Point, most: float) -> Point:
    """The point so far from one to another, but not beyond their middle."""
    dx, dy = other[0] - point[0], other[1] - point[1]
    part = min(most / max(abs(dx) + abs(dy), 1e-9), 0.5)
    return point[0] + dx * part, point[1] + dy * part


def line_end(edge: Edge) -> Point:
    """Where the line itself ends: before its arrow."""
    return toward(edge.points[-1], edge.points[-2], ARROW[0] / 2) if edge.arrow else edge.points[-1]


def arrow_head(edge: Edge) -> tuple[Point, Point, Point]:
    """The triangle at the end of a line, which runs along x or y."""
    (x, y), (before_x, before_y) = edge.points[-1], edge.points[-2]
    length, half = ARROW
    if abs(x - before_x) > abs(y - before_y):
        back = x - length if x > before_x else x + length
        return (x, y), (back, y - half), (back, y + half)
    back = y - length if y > before_y else y + length
    return (x, y), (x - half, back), (x + half, back)


def faces(plate: Plate) -> Iterator[tuple[Role, list[Point]]]:
    """The upper and right faces of a plate, in the colors of what they bound."""
    x, y, width, _ = plate.rect
    depth, right = plate.depth, x + width
    if not depth:
        return
    for rect, role in plate.colors:
        left, end, bottom = rect.x, rect.x + rect.width, rect.y + rect.height
        if rect.y - y < 0.1:
            yield role, [(left, y), (left + depth, y - depth), (end + depth, y - depth), (end, y)]
        if right - end < 0.1:
            corners = [(right, rect.y), (right + depth, rect.y - depth), (right + depth, bottom - depth)]
            yield role, [*corners, (right, bottom)]


def sign(one: Junction) -> tuple[tuple[Point, Point], ...]:
    """The strokes in a junction's circle."""
    y, radius = (one.top + one.bottom) / 2, (one.bottom - one.top) / 2
    if one.sign == "other":
        return ()
    if one.sign == "add":
        half = 0.55 * radius
        return ((one.x - half, y), (one.x + half, y)), ((one.x, y - half), (one.x, y + half))
    half = 0.42 * radius
    return ((one.x - half, y - half), (one.x + half, y + half)), ((one.x - half, y + half), (one.x + half, y - half))
