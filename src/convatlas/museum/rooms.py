"""The room of a network: its diagram, layers, claims and figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from markupsafe import Markup

from convatlas.draw import DrawingFormat, Level
from convatlas.draw.architecture import drawn_network, laid_out, written
from convatlas.draw.comparison import published_error
from convatlas.draw.drawing import Drawing
from convatlas.draw.levels import LEVELS
from convatlas.draw.page import DrawnNetwork
from convatlas.measure import (
    Block,
    ClaimCheck,
    NetworkSummary,
    Parallel,
    Part,
    check_claims,
    differences,
    output_shape,
    structure_of,
    summarize,
)
from convatlas.measure.table import build_without_memory
from convatlas.museum.exhibits import Exhibit
from convatlas.museum.stops import Stop, stop
from convatlas.spec import Layers, Paper, Variant

SUFFIXES: dict[DrawingFormat, str] = {"svg": "svg", "pdf": "pdf", "tikz": "tex"}
FORMAT_NAMES: dict[DrawingFormat, str] = {"svg": "SVG", "pdf": "PDF", "tikz": "TikZ"}
LEVEL_NAMES: dict[Level, str] = {
    "overview": "overview",
    "stages": "units and branches",
    "layers": "every layer",
}


@dataclass(frozen=True)
class NetworkRoom:
    """A network as it is shown."""

    exhibit: Exhibit
    summary: NetworkSummary

    @classmethod
    def of(cls, exhibit: Exhibit) -> NetworkRoom:
        return cls(exhibit, summarize(exhibit.variant))

    @property
    def page(self) -> str:
        """The name of its file."""
        return f"{self.exhibit.name}.html"

    @property
    def variant(self) -> Variant:
        return self.summary.variant

    @property
    def paper(self) -> Paper:
        return self.variant.paper

    @property
    def error(self) -> tuple[str, str]:
        """The first error that the paper prints, and what it is of."""
        return published_error(self.variant)

    @cached_property
    def checks(self) -> tuple[ClaimCheck, ...]:
        return check_claims(self.variant)

    @property
    def differing(self) -> tuple[ClaimCheck, ...]:
        """The claims that the network does not give."""
        return differences(self.checks)

    @cached_property
    def drawn(self) -> dict[Level, DrawnNetwork]:
        """What is drawn of it at each level."""
        return {level: drawn_network(self.summary, level) for level in LEVELS}

    @cached_property
    def drawings(self) -> dict[Level, Drawing]:
        """The diagram at each level."""
        return {level: laid_out([self.drawn[level]], level) for level in LEVELS}

    @cached_property
    def diagrams(self) -> dict[Level, Markup]:
        """The same as parts of the page."""
        return {level: inline(written(drawing, "svg"), level) for level, drawing in self.drawings.items()}

    @property
    def level_names(self) -> dict[Level, str]:
        return LEVEL_NAMES

    @property
    def downloads(self) -> dict[str, list[tuple[str, str]]]:
        """By level, the files of its diagram: (format, path)."""
        return {level: [(one.name, one.path) for one in files_of(drawing_path(self, level))] for level in LEVELS}

    @cached_property
    def axes(self) -> list[tuple[str, list[Stop]]]:
        """The stops of each slider while the others are at the paper's own."""
        values, own = self.exhibit.stops, self.variant.spec.resolution
        return [
            ("width", [stop(self.exhibit, width, 1, own) for width in values.width]),
            ("depth", [stop(self.exhibit, 1, depth, own) for depth in values.depth]),
            ("resolution", [stop(self.exhibit, 1, 1, side) for side in values.resolution]),
        ]


def inline(svg: bytes, level: str) -> Markup:
    """A drawing as a part of a page, in which its ids must be its own."""
    text = re.sub(r"\b(title|text)-([0-9a-f]{8})\b", rf"\1-\2-{level}", svg.decode())
    # The package's own drawing, whose texts are escaped.
    return Markup(text)


class DrawingFile(NamedTuple):
    """A file of a drawing."""

    name: str
    """Of its format, for people."""
    path: str
    kind: DrawingFormat


def files_of(path: str) -> list[DrawingFile]:
    """The files of a drawing.

    Args:
        path: without a suffix.
    """
    return [DrawingFile(FORMAT_NAMES[kind], f"{path}.{suffix}", kind) for kind, suffix in SUFFIXES.items()]


def drawing_path(room: NetworkRoom, level: Level) -> str:
    """The path of its diagram without a suffix."""
    return f"drawings/{room.exhibit.name}-{level}"


def drawings(room: NetworkRoom) -> Iterator[tuple[str, bytes]]:
    """The files of its diagram, by their paths."""
    for level in LEVELS:
        for file in files_of(drawing_path(room, level)):
            yield file.path, written(room.drawings[level], file.kind)


def room_data(room: NetworkRoom) -> dict[str, object]:
    """What a click on the diagram shows: the figures of each layer and each module that a drawing names."""
    named = {name for diagram in room.diagrams.values() for name in re.findall(r' data-layer="([^"]*)"', diagram)}
    table = room.summary.layers
    places = {row.name: place for place, row in enumerate(table)}
    parts = [(name, part) for name in named if (part := table.part(name)).rows]
    # In order of execution; a module before what is in it.
    parts.sort(key=lambda one: (min(places[row.name] for row in one[1]), len(one[0]), one[0]))
    network = build_without_memory(room.variant.network, room.summary.spec)
    modules = {block.name: block for block in blocks_in(structure_of(network).parts)}
    return {
        "name": room.exhibit.title,
        "input": room.summary.input_shape,
        "parts": {name: figures(part, modules.get(name)) for name, part in parts},
    }


def blocks_in(parts: Sequence[Part]) -> Iterator[Block]:
    """All modules of a network, at any depth."""
    for part in parts:
        match part:
            case Block():
                yield part
                yield from blocks_in(part.parts)
            case Parallel(branches, _):
                for branch in branches:
                    yield from blocks_in(branch)


def figures(part: Layers, module: Block | None) -> list[object]:
    """Of a layer, or of all layers of a module: kind, output, parameters, MACs, bytes of outputs, widest receptive
    field, stride, number of layers."""
    last = part.rows[-1]
    return [
        module.kind if module else last.kind,
        output_shape(module.parts) if module else last.output_shape,
        part.params,
        part.macs,
        sum(row.activation_bytes for row in part),
        max(row.receptive_field for row in part),
        last.stride,
        len(part),
    ]
