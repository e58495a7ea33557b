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
Sign = Literal["add", "multiply", "concat"]

SANS_WIDTHS = {"narrow": 0.33, "space": 0.33, "digit": 0.64, "capital": 0.72, "wide": 0.98, "sign": 0.84, "other": 0.62}
"""Of an em, in DejaVu Sans, which is as wide as any font that a browser may take."""


def text_width(text: str, size: float, tone: Tone = "plain") -> float:
    """Pixels that a line of text takes at most."""
    ems = sum(SANS_WIDTHS[letter_class(letter)] for letter in text)
    return ems * size * (1.14 if tone in ("strong", "title") else 1)


def letter_class(letter: str) -> str:
    if letter == " ":
        return "space"
    if letter in "ijlftrI.,:;'|!()[]/·-":
        return "narrow" if letter not in "tfr()[]" else "space"
    if letter in "mwMW%@":
        return "wide"
    if letter in "×+=<>−":
        return "sign"
    if letter.isdigit():
        return "digit"
    return "capital" if letter.isupper() else "other"


class Rect(NamedTuple):
    """A rectangle by its corner, width and height."""

    x: float
    y: float
    width: float
    height: float

    def moved(self, dx: float, dy: float) -> Rect:
        return self._replace(x=self.x + dx, y=self.y + dy)


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
class Wire:
    """A line with rounded corners through points."""

    points: tuple[tuple[float, float], ...]
    arrow: bool = False


@dataclass(frozen=True)
class Junction:
    """Where branches meet: a circle with a sign, or a bar that all of them end at."""

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
    wires: list[Wire] = field(default_factory=list)
    junctions: list[Junction] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)

    def add(self, other: Shapes, dx: float = 0, dy: float = 0) -> None:
        """Add others, moved."""
        for plate in other.plates:
            colors = tuple((rect.moved(dx, dy), role) for rect, role in plate.colors)
            self.plates.append(replace(plate, rect=plate.rect.moved(dx, dy), colors=colors))
        self.texts += (replace(text, x=text.x + dx, y=text.y + dy) for text in other.texts)
        self.wires += (replace(wire, points=tuple((x + dx, y + dy) for x, y in wire.points)) for wire in other.wires)
        self.junctions += (
            replace(one, x=one.x + dx, top=one.top + dy, bottom=one.bottom + dy) for one in other.junctions
        )
        self.panels += (replace(panel, rect=panel.rect.moved(dx, dy)) for panel in other.panels)


@dataclass(frozen=True)
class Drawing:
    """A whole picture."""

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
