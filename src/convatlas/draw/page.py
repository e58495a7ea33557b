"""The page: heading, networks in rows, legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from convatlas.draw.drawing import Drawing, Edge, Junction, Plate, Rect, Role, Shapes, Sign, TextLine, text_width, wrap
from convatlas.draw.layout import SIZE, SizeScale
from convatlas.draw.levels import Item, Level
from convatlas.draw.rows import Body, body

WIDTH, SLIDE = 1280, 720
"""Pixels of a page, and the height of a slide."""
MARGIN = 28
HEADING = 48
"""Pixels from the top of a network's name to the network."""
BETWEEN = 34
LEGEND_LINE = 22
SMALLEST = 90
"""Pixels of the tallest maps, at least."""
ROLES: dict[Role, str] = {
    "convolution": "convolution",
    "pointwise": "1×1 convolution",
    "depthwise": "depthwise convolution",
    "pooling": "pooling",
    "normalization": "normalization",
    "connected": "fully connected",
    "other": "other layer",
}
SIGNS: dict[Sign, str] = {
    "add": "sum",
    "multiply": "product",
    "concat": "concatenation",
    "other": "another operation",
}
SIZES: dict[Level, tuple[float, float]] = {"stages": (100, 1.0), "layers": (84, 1.0)}
"""How tall the largest maps are, and what widths are multiplied by."""
IN_ONE_ROW = ((340, 1.5), (330, 1.25), (310, 1.0), (290, 0.8), (270, 0.65), (250, 0.5))
"""The same in the overview: the first with which a network takes one row."""
IN_ROWS = ((260, 1.4), (230, 1.2), (200, 1.0), (170, 0.8), (140, 0.65), (110, 0.5), (80, 0.4), (50, 0.3))
"""Where none does, the first with which its rows fit on a slide."""


@dataclass(frozen=True)
class DrawnNetwork:
    """What is drawn of one network."""

    title: str
    facts: tuple[str, ...]
    """Its figures, beside or below the title."""
    items: tuple[Item, ...]
    input_shape: tuple[int, ...]
    largest_side: int
    """Of its maps, in pixels."""
    text: str
    """All of it in words, for readers who do not see it."""


def page(networks: Sequence[DrawnNetwork], level: Level, title: str) -> Drawing:
    """Networks below each other at one scale; one alone at the level of the overview is a slide."""
    alone, room = len(networks) == 1, WIDTH - 2 * MARGIN
    bodies = fitted(networks, level, Rect(0, 0, room, (SLIDE - 2 * MARGIN - 170) * len(networks)))
    shapes, y = Shapes(), float(MARGIN)
    key, key_height = legend(bodies, level, room)
    tall = sum(HEADING + one.height + BETWEEN for one in bodies)
    height = max(y + tall + key_height + MARGIN, SLIDE if alone and level == "overview" else 0)
    # A slide's content lies in the middle of what it leaves.
    spare = height - (y + tall + key_height + MARGIN)
    width = float(WIDTH)
    for network, one in zip(networks, bodies, strict=True):
        heading = heading_of(network, 24 if alone else 18, room)
        shapes.add(heading, MARGIN, y)
        last = heading.texts[-1].rect
        width = max(width, one.width + 2 * MARGIN, last.x + last.width + 2 * MARGIN)
        y += HEADING + spare / 2
        shapes.add(one.shapes, max((WIDTH - one.width) / 2, MARGIN) if alone else MARGIN, y)
        y += one.height + BETWEEN
    shapes.add(key, MARGIN, height - MARGIN - key_height)
    return Drawing(width, height, title, " ".join(network.text for network in networks), shapes)


def heading_of(network: DrawnNetwork, size: float, room: float) -> Shapes:
    """A network's name and figures, on one line of at most `room` pixels or on two."""
    title = TextLine(0, 14, network.title, size, "title", "start")
    facts = TextLine(title.rect.width + 16, 14, " · ".join(network.facts), 14, "soft", "start")
    if facts.x + facts.rect.width > room:
        facts = replace(facts, x=0, y=36)
    return Shapes(texts=[title, facts])


def fitted(networks: Sequence[DrawnNetwork], level: Level, room: Rect) -> list[Body]:
    """Networks at one scale: the largest at which each takes one row, else that at which they take the fewest.

    Args:
        room: how wide a row may be, and at the level of the overview how high they may all be together.
    """
    largest = max(network.largest_side for network in networks)
    share = len(networks) ** 0.75

    def at(tallest: float, thickness: float) -> list[Body]:
        scale = SizeScale(largest, max(tallest / share, SMALLEST), thickness)
        return [body(one.items, one.input_shape, scale, level, room.width) for one in networks]

    if level != "overview":
        return at(*SIZES[level])
    for tallest, thickness in IN_ONE_ROW:
        bodies = at(tallest, thickness)
        if any(one.num_rows > 1 for one in bodies):
            continue
        if sum(one.height for one in bodies) > room.height:
            # Where branches lie below each other.
            bodies = at(tallest * 0.7, thickness)
        return bodies
    tried = (at(*size) for size in IN_ROWS)
    return next((bodies for bodies in tried if sum(one.height for one in bodies) <= room.height), at(*IN_ROWS[-1]))


def legend(bodies: Sequence[Body], level: Level, room: float) -> tuple[Shapes, float]:
    """What the colors, signs and sizes of drawings mean, from its upper left corner, and its height in pixels.

    Args:
        room: pixels that a line may take.
    """
    shapes = Shapes()
    for one in bodies:
        shapes.add(one.shapes)
    roles = {role for plate in shapes.plates for _, role in plate.colors}
    signs = {one.sign for one in shapes.junctions}
    entries: list[tuple[Role | None, Sign | None, str]] = [
        *((role, None, name) for role, name in ROLES.items() if role in roles),
        *((None, sign, name) for sign, name in SIGNS.items() if sign in signs),
    ]
    result, x, y = Shapes(), 0.0, 8.0
    for role, sign, name in entries:
        width = 22 + text_width(name, SIZE) + 18
        if x and x + width > room:
            x, y = 0, y + LEGEND_LINE
        rect = Rect(x, y - 7, 14, 14)
        if role:
            result.plates.append(Plate(rect, ((rect, role),), "", ""))
        if sign:
            result.junctions.append(Junction(sign, x + 8, y - 8, y + 8))
        result.texts.append(TextLine(x + 22, y + 4, name, SIZE, "soft", "start"))
        x += width
    for line in wrap(meaning(shapes, level).split(" "), room, SIZE):
        y += LEGEND_LINE
        result.texts.append(TextLine(0, y + 4, line, SIZE, "soft", "start"))
    return result, y + 8


def meaning(shapes: Shapes, level: Level) -> str:
    """What sizes and signs in captions mean; only of those that are there."""
    texts = [text.text for text in shapes.texts]
    parts = ["A block is as high as its feature maps (square root) and as wide as it has channels (logarithm)."]
    if any(len(plate.colors) > 1 for plate in shapes.plates):
        parts.append("Stripes: the layers in it.")
    if any(text.startswith("×") for text in texts):
        parts.append("×3: three in a row.")
    if any("/" in text for text in texts):
        parts.append("/2: stride 2.")
    if level == "overview" and any(is_arc(edge) for edge in shapes.edges):
        parts.append("Arc: its input, led past it.")
    return " ".join(parts)


def is_arc(edge: Edge) -> bool:
    """Whether it leaves the axis and comes back to it, past a block."""
    return len(edge.points) == 4 and edge.points[0][1] == edge.points[3][1]
