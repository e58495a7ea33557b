"""What a drawing consists of, in pixels, whatever file it becomes: boxes, texts, lines, junctions.

x grows to the right and y down. Texts are placed by the beginning, middle or end of their baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

Anchor = Literal["start", "middle", "end"]
Tone = Literal["plain", "strong", "soft", "title"]
Role = Literal["convolution", "pointwise", "depthwise", "pooling", "normalization", "connected", "other", "input"]
Sign = Literal["add", "multiply", "concat", "other"]

# fmt: off
REGULAR = (
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 34, 34, 84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79,
    60, 79, 69, 63, 61, 73, 68, 99, 69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63,
    63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84,
)
BOLD = (
    35, 46, 52, 84, 70, 100, 87, 31, 46, 46, 52, 84, 38, 42, 38, 37, 70, 70, 70, 70, 70, 70, 70, 70,
    70, 70, 40, 40, 84, 84, 84, 58, 100, 77, 76, 73, 83, 68, 68, 82, 84, 37, 37, 77, 64, 100, 84, 85,
    73, 85, 77, 72, 68, 81, 77, 110, 77, 72, 73, 46, 37, 46, 84, 50, 50, 67, 72, 59, 72, 68, 44, 72,
    71, 34, 34, 67, 34, 104, 71, 69, 72, 72, 49, 60, 48, 71, 65, 92, 65, 65, 58, 71, 37, 71, 84,
)
# fmt: on
"""Hundredths of an em that the letters from the space to the tilde take in DejaVu Sans, which is as wide as any font
that a browser may take."""
SIGN = 84
"""The widest of the others in our texts, the multiplication sign."""


def text_width(text: str, size: float, tone: Tone = "plain") -> float:
    """Pixels that a line of text takes at most."""
    widths = BOLD if tone in ("strong", "title") else REGULAR
    return size / 100 * sum(widths[ord(letter) - 32] if " " <= letter <= "~" else SIGN for letter in text)


class Rect(NamedTuple):
    """A rectangle by its corner, width and height."""

    x: float
    y: float
    width: float
    height: float

    def moved(self, dx: float, dy: float) -> Rect:
        return self._replace(x=self.x + dx, y=self.y + dy)

    def touches(self, other: Rect, gap: float = 0) -> bool:
        """Whether they share room, or come nearer to each other than a gap."""
        return (
            self.x < other.x + other.width + gap
            and other.x < self.x + self.width + gap
            and self.y < other.y + other.height + gap
            and other.y < self.y + self.height + gap
        )


@dataclass(frozen=True)
class Plate:
    """The feature maps of a layer, or of a unit: a rectangle in the colors of the layers in it."""

    rect: Rect
    colors: tuple[tuple[Rect, Role], ...]
    """Rectangles that fill it."""
    name: str
    """Of the layer or module, as "stages.0.1.conv2"."""
    tip: str
    """What a pointer over it reads."""
    depth: float = 0
    """Pixels by which its upper and right faces show behind it."""

    @property
    def room(self) -> Rect:
        """The room that it takes with its faces."""
        x, y, width, height = self.rect
        return Rect(x, y - self.depth, width + self.depth, height + self.depth)


@dataclass(frozen=True)
class TextLine:
    x: float
    y: float
    text: str
    size: float = 12
    tone: Tone = "plain"
    anchor: Anchor = "middle"

    @property
    def rect(self) -> Rect:
        """The room that it takes, from the top of its letters to the bottom of theirs."""
        width = text_width(self.text, self.size, self.tone)
        left = {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return Rect(self.x - left, self.y - 0.78 * self.size, width, self.size)


@dataclass(frozen=True)
class Edge:
    """A line with rounded corners through points."""

    points: tuple[tuple[float, float], ...]
    arrow: bool = False


@dataclass(frozen=True)
class Junction:
    """Where branches meet: a circle with a sign, or for a concatenation a bar that all of them end at."""

    sign: Sign
    x: float
    top: float
    bottom: float
    name: str = ""


@dataclass(frozen=True)
class Panel:
    """A frame around what belongs together."""

    rect: Rect
    kind: Literal["stage", "unit"]
    name: str = ""


@dataclass
class Shapes:
    """Shapes of a drawing, that can be moved together."""

    plates: list[Plate] = field(default_factory=list)
    texts: list[TextLine] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    junctions: list[Junction] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)

    def add(self, other: Shapes, dx: float = 0, dy: float = 0) -> None:
        """Add others, moved."""
        for plate in other.plates:
            colors = tuple((rect.moved(dx, dy), role) for rect, role in plate.colors)
            self.plates.append(replace(plate, rect=plate.rect.moved(dx, dy), colors=colors))
        self.texts += (replace(text, x=text.x + dx, y=text.y + dy) for text in other.texts)
        self.edges += (replace(edge, points=tuple((x + dx, y + dy) for x, y in edge.points)) for edge in other.edges)
        self.junctions += (
            replace(one, x=one.x + dx, top=one.top + dy, bottom=one.bottom + dy) for one in other.junctions
        )
        self.panels += (replace(panel, rect=panel.rect.moved(dx, dy)) for panel in other.panels)


@dataclass(frozen=True)
class Drawing:
    """A whole drawing."""

    width: float
    height: float
    title: str
    description: str
    """What it shows, for readers who do not see it."""
    shapes: Shapes


def wrap(words: Sequence[str], width: float, size: float, tone: Tone = "plain") -> list[str]:
    """Words in lines of at most that width, if each word has room."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, tone) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
