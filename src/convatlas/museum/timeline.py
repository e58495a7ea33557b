"""The first page: the eight networks on one axis of years and at one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convatlas import atlas
from convatlas.draw.drawing import Rect, text_width
from convatlas.formatting import round_count
from convatlas.measure import NetworkSummary, summarize
from convatlas.museum.rooms import NetworkRoom
from convatlas.museum.stops import weighted

FIRST = ("lenet1989", "Zip code network")
"""With what the first family began."""
WIDTH, HEIGHT = 1120, 500
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 70, 46
EARLY, BREAK, LATE = (1989, 1998), 2011.4, 2019
"""Nothing happens here between the two: the years from 1999 to 2011 take no room, and the axis shows that."""
EARLY_WIDTH, INDENT = 150, 70
"""Pixels that the early years take, and those before them, so that the first name has room."""
DECADES = (4, 5, 6, 7, 8, 9, 10)
"""Powers of ten of MACs that have a line."""
LARGEST = 46
"""Pixels of the radius that the most parameters have."""
SILHOUETTE = (720, 56)
"""Pixels that the longest row of layers takes, and the tallest."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A network on the timeline."""

    room: NetworkRoom
    """Where more is told of it."""
    name: str
    x: float
    y: float
    radius: float
    label: str
    """In words, with its figures."""

    @property
    def circle(self) -> Rect:
        """The square around its circle."""
        return Rect(self.x - self.radius, self.y - self.radius, 2 * self.radius, 2 * self.radius)

    def name_y(self, others: Sequence[Point]) -> float:
        """The baseline of its name: above the circle, or below where another's circle is in the way."""
        width = text_width(self.name, 14, "strong")
        above = Rect(self.x - width / 2, self.y - self.radius - 22, width, 16)
        in_the_way = any(above.touches(one.circle) for one in others if one is not self)
        return self.y + self.radius + 19 if in_the_way else self.y - self.radius - 8


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What the first page draws."""

    points: list[Point]
    links: list[str]
    """From each network to those that took from it, as paths."""
    years: list[tuple[int, float]]
    lines: list[tuple[str, float]]
    break_x: float
    width: int = WIDTH
    height: int = HEIGHT
    axis: int = HEIGHT - BOTTOM

    @classmethod
    def of(cls, rooms: Sequence[NetworkRoom]) -> Timeline:
        most = max(room.summary.footprint.params for room in rooms)
        points = [point(room, room.summary, room.exhibit.title, most) for room in rooms]
        places = {one.room.exhibit.name: one for one in points}
        first = point(rooms[0], summarize(atlas.find(FIRST[0])), FIRST[1], most)
        pairs = {
            (debt.room, room.exhibit.name): None for room in rooms for debt in room.exhibit.took if debt.room in places
        }
        return cls(
            points=[first, *points],
            links=[link(first, points[0]), *(link(places[lender], places[borrower]) for lender, borrower in pairs)],
            years=[(year, x_of(year)) for year in (1989, 1998, *range(2012, 2020))],
            lines=[(round_count(10**power).replace(".00", "").replace(".0", ""), y_of(10**power)) for power in DECADES],
            break_x=x_of(2012) - 42,
        )


def timeline_values(rooms: Sequence[NetworkRoom]) -> dict[str, object]:
    """What the template of the first page needs."""
    return {
        "rooms": rooms,
        "timeline": Timeline.of(rooms),
        "silhouettes": silhouettes([room.summary for room in rooms]),
        "silhouette_size": SILHOUETTE,
    }


def point(room: NetworkRoom, summary: NetworkSummary, name: str, most_params: int) -> Point:
    footprint, year = summary.footprint, summary.variant.paper.year
    figures = f"{round_count(footprint.params)} parameters, {round_count(footprint.macs)} MACs"
    return Point(
        room=room,
        name=name,
        x=x_of(year),
        y=y_of(footprint.macs),
        radius=LARGEST * math.sqrt(footprint.params / most_params),
        label=f"{name}, {year}: {figures}",
    )


def x_of(year: int) -> float:
    """Pixels of a year: to the left those before the gap, to the right those after it."""
    if year <= EARLY[1]:
        return LEFT + INDENT + EARLY_WIDTH * (year - EARLY[0]) / (EARLY[1] - EARLY[0])
    room = WIDTH - LEFT - RIGHT - EARLY_WIDTH - INDENT - 30
    return LEFT + EARLY_WIDTH + INDENT + 30 + room * (year - BREAK) / (LATE - BREAK + 0.2)


def y_of(macs: float) -> float:
    share = (math.log10(macs) - DECADES[0]) / (DECADES[-1] + 0.3 - DECADES[0])
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def link(lender: Point, borrower: Point) -> str:
    """A curve from one network to the other, bent upwards."""
    middle = (lender.x + borrower.x) / 2
    top = min(lender.y, borrower.y) - 26
    return f"M{lender.x:.0f} {lender.y:.0f}Q{middle:.0f} {top:.0f} {borrower.x:.0f} {borrower.y:.0f}"


def silhouettes(summaries: Sequence[NetworkSummary]) -> list[list[tuple[Rect, bool]]]:
    """For each network, its layers with weights as bars, and whether each is fully connected; all at one scale.

    A bar is as high as the layer's feature maps (square root) and as wide as it has channels (logarithm).
    """
    rows = [weighted(summary) for summary in summaries]
    shapes = [[row.output_shape for row in layers] for layers in rows]
    widths = [[math.log2(shape[0] + 1) for shape in one] for one in shapes]
    heights = [[math.sqrt(shape[-1]) if len(shape) > 1 else 1 for shape in one] for one in shapes]
    wide = SILHOUETTE[0] / max(sum(one) for one in widths)
    tall = SILHOUETTE[1] / max(max(one) for one in heights)
    drawn = []
    for number, layers in enumerate(rows):
        x, bars = 0.0, []
        for i in range(len(layers)):
            width, height = widths[number][i] * wide, heights[number][i] * tall
            place = Rect(round(x, 1), round((SILHOUETTE[1] - height) / 2, 1), round(width, 1), round(height, 1))
            bars.append((place, len(shapes[number][i]) == 1))
            x += width
        drawn.append(bars)
    return drawn
