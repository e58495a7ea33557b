"""What lies in series on a page: rows, the edges between their parts, frames around stages, turns to the next row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from convatlas.draw.drawing import Edge, Panel, Rect, Shapes, TextLine, text_width
from convatlas.draw.layout import PADDING, SIZE, SMALL, Fragment, SizeScale, fragment_of, image_fragment
from convatlas.draw.levels import Fork, Group, Item, Level

EDGE = 26
"""Pixels of an edge that says nothing."""
TURN = 16
"""Pixels in which a line turns from a row to the next."""
ROW_GAP = 30
STAGE_TITLE = 18
NEAR = 6
"""Pixels between what an edge says and a caption, at least."""


@dataclass(frozen=True)
class Atom:
    """What is not broken over rows, and what the edge that leads to it says."""

    fragment: Fragment
    stage: Group | None
    channels: str = ""
    """Above the edge."""
    sides: str = ""
    """Below it."""

    @property
    def edge(self) -> float:
        """Pixels of the edge that leads to it."""
        labels = max(text_width(self.channels, SMALL), text_width(self.sides, SMALL))
        return max(labels + 16, EDGE)

    @property
    def width(self) -> float:
        return self.edge + self.fragment.width


@dataclass(frozen=True)
class Body:
    """A network on a page, from its upper left corner."""

    shapes: Shapes
    width: float
    height: float
    num_rows: int


def body(items: Sequence[Item], input_shape: tuple[int, ...], scale: SizeScale, level: Level, room: float) -> Body:
    """A network in rows.

    Args:
        items: in series.
        input_shape: (channels, height, width).
        room: pixels that a row may take; a single part that is wider makes the page wider.
    """
    image = image_fragment(input_shape, scale, level)
    label = str(shape_of(items[-1])[0])
    out = text_width(label, SMALL) + 16
    room -= TURN + max(TURN, out)
    atoms = atoms_of(items, input_shape, scale, level)
    rows = rows_of(atoms, room, image.width)
    # As even as they can be; stages stay whole.
    while level == "overview" and len(tighter := rows_of(atoms, room - 24, image.width)) == len(rows) > 1:
        if not fits(tighter, room - 24, image):
            break
        rows, room = tighter, room - 24
    shapes, y, widest = Shapes(), 0.0, 0.0
    turn: tuple[float, float, float, float] | None = None
    for i, row in enumerate(rows):
        last = rows[i - 1][-1].stage if i else None
        own = placed(row, None if i else image, last)
        axis, left = y + own.up, float(TURN if i else 0)
        shapes.add(own.shapes, left, axis)
        if turn is not None:
            x, right, before, bottom = turn
            between = bottom + ROW_GAP / 2
            corners = ((x, before), (right, before), (right, between), (4, between), (4, axis))
            shapes.edges.append(Edge((*corners, (left + own.enter, axis)), arrow=True))
        leave, end = left + own.leave, left + own.width + TURN
        if i + 1 == len(rows):
            end = max(end, leave + out)
            shapes.edges.append(Edge(((leave, axis), (end, axis)), arrow=True))
            shapes.texts.append(TextLine((leave + end) / 2, axis - 5, label, SMALL, "soft"))
        widest = max(widest, end)
        turn = (leave, end, axis, axis + own.down)
        y += own.up + own.down + ROW_GAP
    return Body(shapes, widest, y - ROW_GAP, len(rows))


def fits(rows: Sequence[Sequence[Atom]], room: float, image: Fragment) -> bool:
    """Whether no row is wider than the room: a part alone may be."""
    return all(row_width(row) + (0 if i else image.width) <= room for i, row in enumerate(rows))


def row_width(row: Sequence[Atom]) -> float:
    stages = sum(stage is not None for stage, _ in groupby(row, lambda atom: atom.stage))
    return sum(atom.width for atom in row) + 2 * PADDING * stages


def atoms_of(items: Sequence[Item], input_shape: tuple[int, ...], scale: SizeScale, level: Level) -> list[Atom]:
    atoms: list[Atom] = []
    shape, told = input_shape, tuple[int, ...]()
    for item in items:
        stage = item if isinstance(item, Group) and item.kind == "stage" else None
        for one in stage.items if stage else (item,):
            channels, sides = (f"{shape[0]}", "×".join(map(str, shape[1:]))) if shape != told else ("", "")
            atoms.append(Atom(fragment_of(one, scale, level), stage, channels, sides))
            told, shape = shape, shape_of(one)
    return atoms


def shape_of(item: Item) -> tuple[int, ...]:
    """The shape of what it gives."""
    return item.join.output_shape if isinstance(item, Fork) else item.shape


def rows_of(atoms: Sequence[Atom], room: float, first: float) -> list[list[Atom]]:
    """Atoms in rows of at most that width. A stage that fits into a row is not broken.

    Args:
        first: pixels that the first row has less.
    """
    rows: list[list[Atom]] = [[]]
    used = first
    for _, same in groupby(enumerate(atoms), lambda pair: id(pair[1].stage) if pair[1].stage else pair[0]):
        run = [atom for _, atom in same]
        frame = 2 * PADDING if run[0].stage else 0
        if rows[-1] and used + row_width(run) > room:
            rows.append([])
            used = 0.0
        used += frame
        for atom in run:
            if rows[-1] and used + atom.width > room:
                rows.append([])
                used = float(frame)
            rows[-1].append(atom)
            used += atom.width
    return rows


def edge_labels(atom: Atom, places: Sequence[float], captions: Sequence[Rect]) -> list[TextLine]:
    """What the edge to an atom says, at the first place where no caption is near, or else at the last."""
    labels: list[TextLine] = []
    for x in places:
        labels = [TextLine(x, y, text, SMALL, "soft") for text, y in ((atom.channels, -5), (atom.sides, 14)) if text]
        if not any(label.rect.touches(caption, NEAR) for label in labels for caption in captions):
            break
    return labels


def placed(row: Sequence[Atom], image: Fragment | None, last: Group | None) -> Fragment:
    """A row on its axis.

    Args:
        image: what the first row begins with.
        last: the stage that the row before ends with.
    """
    shapes, x, leave, enter = Shapes(), 0.0, 0.0, 0.0
    up = max(atom.fragment.up for atom in row)
    down = max(atom.fragment.down for atom in row)
    if image is not None:
        shapes.add(image.shapes)
        x, leave, up, down = image.width, image.leave, max(up, image.up), max(down, image.down)
    frames: list[tuple[Group, float, float, float, float]] = []
    before: Group | None = None
    for i, atom in enumerate(row):
        part, opens = atom.fragment, atom.stage is not None and atom.stage is not before
        x += PADDING if before is not None and atom.stage is not before else 0
        end = x + atom.edge
        x = end + (PADDING if opens else 0)
        # The line from the row before turns at the left edge.
        start = leave if i or image is not None else 4.0 - TURN
        middle = (start + end + (0 if opens else part.enter)) / 2
        captions = [line.rect for line in shapes.texts] + [line.rect.moved(x, 0) for line in part.shapes.texts]
        shapes.texts += edge_labels(atom, (middle, end - atom.edge / 2), captions)
        if i or image is not None:
            shapes.edges.append(Edge(((leave, 0), (x + part.enter, 0)), arrow=True))
        else:
            enter = x + part.enter
        shapes.add(part.shapes, x)
        if atom.stage is not None:
            _, left, _, above, below = (atom.stage, x - PADDING, 0, 0, 0) if opens else frames.pop()
            right = x + part.width + PADDING
            frames.append((atom.stage, left, right, max(above, part.up), max(below, part.down)))
        leave, before = x + part.leave, atom.stage
        x += part.width
    for stage, left, right, above, below in frames:
        top = above + PADDING + STAGE_TITLE
        up, down = max(up, top), max(down, below + PADDING)
        name = f"{stage.name}, continued" if stage is last else stage.title
        title = TextLine(left + PADDING, 16 - top, name, SIZE, "strong", "start")
        right = max(right, left + 2 * PADDING + text_width(title.text, SIZE, "strong"))
        shapes.panels.insert(0, Panel(Rect(left, -top, right - left, top + below + PADDING), "stage", stage.name))
        shapes.texts.append(title)
    return Fragment(shapes, x + (PADDING if before is not None else 0), up, down, enter, leave)
