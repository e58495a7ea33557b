"""Where cells, forks and groups lie: a recursive layout from left to right, along an axis at y = 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from convatlas.draw.drawing import Edge, Junction, Panel, Plate, Rect, Role, Shapes, Sign, TextLine, text_width, wrap
from convatlas.draw.levels import Cell, Fork, Group, Item, Level, describe_shape, role_of
from convatlas.measure import Block, GraphLayer, Parallel, Part, output_shape

SIZE = 13
"""Pixels of the letters of captions."""
SMALL = 12
"""Pixels of the smallest letters."""
LINE = 15
"""Pixels from one line of a caption to the next."""
GAP = 14
"""Pixels between neighbors in a branch."""
LEAD = 16
"""Pixels in which lines leave a fork for its branches."""
CLEARANCE = 10
"""Pixels between branches, and between a layer and a line that passes it."""
RADIUS = 8
"""Pixels of the circle where branches meet."""
PADDING = 10
"""Pixels between a frame and what is in it."""
OBLIQUE = 0.12
"""Of its height, how far the upper and right faces of a plate show behind it."""


@dataclass(frozen=True)
class SizeScale:
    """How large feature maps are drawn. Networks that are compared share it."""

    largest_side: int
    """Pixels of the largest maps."""
    tallest: float
    """What these are drawn as, in pixels."""
    thickness: float = 1
    """What widths are multiplied by."""

    def height(self, shape: Sequence[int]) -> float:
        """Pixels for the side of maps: in proportion to its square root, so that areas are as sides."""
        side = shape[-1] if len(shape) > 1 else 1
        return max(self.tallest * math.sqrt(side / self.largest_side), 7)

    def width(self, shape: Sequence[int]) -> float:
        """Pixels for the number of channels: its logarithm."""
        return (8 + 4.5 * math.log2(max(shape[0], 1))) * self.thickness


@dataclass
class Fragment:
    """A part of the drawing. Its left edge lies at x = 0, its axis at y = 0."""

    shapes: Shapes
    width: float
    up: float
    """Pixels that it takes above its axis."""
    down: float
    enter: float
    """Where a line that leads to it ends on the axis."""
    leave: float


def fragment_of(item: Item, scale: SizeScale, level: Level) -> Fragment:
    match item:
        case Cell():
            return cell_fragment(item, scale, level)
        case Fork():
            return fork_fragment(item, scale, level)
        case Group():
            return group_fragment(item, scale, level)


def series_fragment(items: Sequence[Item], scale: SizeScale, level: Level) -> Fragment:
    """Items from left to right, with lines between them."""
    shapes, x, up, down = Shapes(), 0.0, 0.0, 0.0
    enter = leave = 0.0
    for i, item in enumerate(items):
        part = fragment_of(item, scale, level)
        if i:
            x += GAP - min(GAP / 2, part.enter)
            shapes.edges.append(Edge(((leave, 0), (x + part.enter, 0)), arrow=not isinstance(item, Fork)))
        else:
            enter = part.enter
        shapes.add(part.shapes, x)
        leave = x + part.leave
        x += part.width
        up, down = max(up, part.up), max(down, part.down)
    return Fragment(shapes, x, up, down, enter, leave)


def cell_fragment(cell: Cell, scale: SizeScale, level: Level) -> Fragment:
    """A plate with its caption below."""
    height = scale.height(cell.shape)
    whole = Rect(0, 0, 1, 1)
    colors = painted(cell.parts, whole) if cell.parts else ((whole, "input"),)
    num = round(1 / min(rect.width for rect, _ in colors))
    width = max(scale.width(cell.shape), 7 * num if num > 1 else 0)
    depth = OBLIQUE * height
    texts = caption(cell, level)
    loop = 9.0 if cell.passed else 0.0
    total = max(width + depth + 2 * loop, *(text_width(line.text, line.size, line.tone) for line in texts))
    left = (total - width - depth) / 2
    plate = Rect(left, -height / 2, width, height)
    fills = tuple(
        (Rect(left + one.x * width, (one.y - 0.5) * height, one.width * width, one.height * height), role)
        for one, role in colors
    )
    shapes = Shapes(plates=[Plate(plate, fills, cell.name, cell.tip, depth)])
    up, start, end = height / 2 + depth, left - loop, left + width + depth + loop
    if cell.passed:
        top = -up - 7
        shapes.edges.append(Edge(((start, 0), (start, top), (end, top), (end, 0)), arrow=True))
        shapes.edges.append(Edge(((start, 0), (left, 0))))
        shapes.edges.append(Edge(((left + width + depth, 0), (end, 0))))
        up += 9
    base = height / 2 + 15
    shapes.texts += (replace(line, x=total / 2, y=base + i * LINE) for i, line in enumerate(texts))
    return Fragment(shapes, total, up, base + LINE * len(texts) - 10, start, end)


def caption(cell: Cell, level: Level) -> list[TextLine]:
    """The lines below a cell, not yet placed."""
    lines = [line for line in cell.lines if line]
    if level == "layers":
        return [TextLine(0, 0, line, SMALL, "soft" if i else "strong") for i, line in enumerate(lines)]
    if level == "stages":
        return [TextLine(0, 0, line, SIZE, "soft" if i else "plain") for i, line in enumerate(lines)]
    times = [TextLine(0, 0, f"×{cell.count}", SIZE + 1, "strong")] if cell.count > 1 else []
    return [*(TextLine(0, 0, line, SIZE) for line in wrap(lines, 70, SIZE)), *times]


def image_fragment(shape: tuple[int, ...], scale: SizeScale, level: Level) -> Fragment:
    """The input of the network."""
    tip = f"image: {describe_shape(shape)}"
    return cell_fragment(Cell("input", ("image",), (), shape, tip=tip), scale, level)


def painted(parts: Sequence[Part], room: Rect) -> tuple[tuple[Rect, Role], ...]:
    """Rectangles in the colors of layers: in series side by side, concatenated branches below each other by channels.

    Normalization, what is added and what only weighs channels are left out.
    """
    shown = [part for part in parts if main_layers([part])] or list(parts)
    width = room.width / len(shown)
    colors: list[tuple[Rect, Role]] = []
    for i, part in enumerate(shown):
        own = Rect(room.x + i * width, room.y, width, room.height)
        match part:
            case Block(parts=inner):
                colors += painted(inner, own)
            case Parallel(branches, join) if join.kind in ("concat", "towers"):
                filled = [branch for branch in branches if branch]
                channels = [output_shape(branch)[0] for branch in filled]
                top = own.y
                for branch, num in zip(filled, channels, strict=True):
                    height = own.height * num / sum(channels)
                    colors += painted(branch, Rect(own.x, top, own.width, height))
                    top += height
            case Parallel(branches):
                colors += painted(max(branches, key=lambda branch: len(main_layers(branch))), own)
            case layer:
                colors.append((own, role_of(layer)))
    return tuple(colors)


def main_layers(parts: Sequence[Part]) -> list[GraphLayer]:
    """The layers of parts, without normalization, joins and what weighs channels."""
    found: list[GraphLayer] = []
    for part in parts:
        match part:
            case Parallel(branches, join):
                found += (layer for branch in branches for layer in main_layers(branch) if join.kind != "multiply")
            case Block(parts=inner):
                found += main_layers(inner)
            case layer:
                found += [layer] if role_of(layer) != "normalization" else []
    return found


def group_fragment(group: Group, scale: SizeScale, level: Level) -> Fragment:
    """A unit in its frame, with its name above."""
    inner = series_fragment(group.items, scale, level)
    times = f"×{group.count}" if group.count > 1 else ""
    titles = text_width(group.title, SMALL) + (text_width(times, SIZE, "strong") + 8 if times else 0)
    width = max(inner.width + 4, titles) + 2 * PADDING
    left = (width - inner.width) / 2
    up, down = inner.up + PADDING + LINE, inner.down + PADDING - 2
    shapes = Shapes(panels=[Panel(Rect(0, -up, width, up + down), "unit", group.name)])
    shapes.texts.append(TextLine(PADDING, 14 - up, group.title, SMALL, "soft", "start"))
    if times:
        shapes.texts.append(TextLine(width - PADDING, 14 - up, times, SIZE, "strong", "end"))
    shapes.edges.append(Edge(((0, 0), (left + inner.enter, 0)), arrow=not isinstance(group.items[0], Fork)))
    shapes.edges.append(Edge(((left + inner.leave, 0), (width, 0))))
    shapes.add(inner.shapes, left)
    return Fragment(shapes, width, up, down, 0, width)


def fork_fragment(fork: Fork, scale: SizeScale, level: Level) -> Fragment:
    branches = [series_fragment(branch, scale, level) for branch in fork.branches]
    alike = fork.join.kind == "towers" or (fork.join.kind == "concat" and all(fork.branches))
    if alike or len(branches) != 2:
        return stacked_fragment(fork.join, branches)
    # The longer branch stays on the axis; but what is weighed does, and what computes its weights leaves it.
    gate = fork.join.kind == "multiply"
    main, side = sorted(branches, key=lambda branch: branch.width if gate else -branch.width)
    return passed_fragment(fork.join, main, side, level)


def passed_fragment(join: GraphLayer, main: Fragment, side: Fragment, level: Level) -> Fragment:
    """A branch on the axis and one that is led past it: above it, or below it if it computes weights."""
    gate, sign = join.kind == "multiply", sign_of(join)
    inner = max(main.width, side.width + (2 * CLEARANCE if side.width else 0))
    width = LEAD + inner + LEAD + RADIUS
    x, end = LEAD + (inner - main.width) / 2, LEAD + inner + LEAD - RADIUS
    shapes = Shapes()
    shapes.add(main.shapes, x)
    if main.width:
        shapes.edges.append(Edge(((0, 0), (x + main.enter, 0)), arrow=True))
        shapes.edges.append(Edge(((x + main.leave, 0), (end, 0)), arrow=True))
    else:
        shapes.edges.append(Edge(((0, 0), (end, 0)), arrow=True))
    y = main.down + side.up + CLEARANCE + 4 if gate else -(main.up + side.down + CLEARANCE)
    shapes.add(side.shapes, LEAD + (inner - side.width) / 2, y)
    up, down = max(main.up, side.up - y), max(main.down, side.down + y)
    center = LEAD + inner + LEAD
    bar = sign == "concat"
    top, bottom = (y - 6, 6) if bar else (-RADIUS, RADIUS)
    last = ((end + RADIUS - 3, y),) if bar else ((center, y), (center, RADIUS if gate else -RADIUS))
    if side.width:
        left = LEAD + (inner - side.width) / 2
        shapes.edges.append(Edge(((0, 0), (6, 0), (6, y), (left + side.enter, y)), arrow=True))
        shapes.edges.append(Edge(((left + side.leave, y), *last), arrow=True))
    else:
        shapes.edges.append(Edge(((0, 0), (6, 0), (6, y), *last), arrow=True))
    shapes.junctions.append(Junction(sign, center, top, bottom, join.name))
    up, down = max(up, RADIUS, 4 - y), max(down, RADIUS)
    said = join.kind if sign == "other" else join.activation if level == "layers" and not gate else ""
    if said:
        shapes.texts.append(TextLine(center, RADIUS + 14, said, SMALL, "soft"))
        width, down = max(width, center + text_width(said, SMALL) / 2), max(down, RADIUS + 18)
    return Fragment(shapes, width, up, down, 0, center + (3 if bar else RADIUS))


def sign_of(join: GraphLayer) -> Sign:
    match join.kind:
        case "add" | "multiply" | "concat":
            return join.kind
        case "towers":
            return "concat"
    return "other"


def stacked_fragment(join: GraphLayer, branches: Sequence[Fragment]) -> Fragment:
    """Branches below each other, from one point to a bar that joins them."""
    inner = max(branch.width for branch in branches)
    is_towers = join.kind == "towers"
    ups = [max(branch.up + (LINE if is_towers else 0), 4) for branch in branches]
    downs = [max(branch.down, 4) for branch in branches]
    total = sum(ups) + sum(downs) + CLEARANCE * (len(branches) - 1)
    bar = LEAD + inner + LEAD
    shapes, y, axes = Shapes(), -total / 2, []
    for number, (branch, up, down) in enumerate(zip(branches, ups, downs, strict=True), 1):
        axis = y + up
        axes.append(axis)
        x = LEAD + (inner - branch.width) / 2
        shapes.add(branch.shapes, x, axis)
        if is_towers:
            shapes.texts.append(TextLine(x, axis - up + SMALL - 2, f"tower {number}", SMALL, "soft", "start"))
        if branch.width:
            shapes.edges.append(Edge(((0, 0), (6, 0), (6, axis), (x + branch.enter, axis)), arrow=True))
            shapes.edges.append(Edge(((x + branch.leave, axis), (bar - 3, axis)), arrow=True))
        else:
            shapes.edges.append(Edge(((0, 0), (6, 0), (6, axis), (bar - 3, axis)), arrow=True))
        y += up + down + CLEARANCE
    shapes.junctions.append(Junction("concat", bar, axes[0] - 6, axes[-1] + 6, join.name))
    leave = bar + 3
    if sign_of(join) == "other":
        shapes.texts.append(TextLine(bar, axes[-1] + 20, join.kind, SMALL, "soft"))
        bar += text_width(join.kind, SMALL) / 2
        return Fragment(shapes, bar + 3, total / 2, max(total / 2, axes[-1] + 24), 0, leave)
    return Fragment(shapes, leave, total / 2, total / 2, 0, leave)
