"""Two networks beside each other: a drawing at one scale for each pair, and a table of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from convatlas.draw.architecture import laid_out, written
from convatlas.formatting import count, size
from convatlas.museum.rooms import DrawingFile, NetworkRoom, files_of

FIRST_PAIR = ("vgg16", "mobilenet")
"""What the page shows before somebody chooses."""


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """A figure of all networks."""

    name: str
    texts: list[str]
    numbers: list[int] | None
    """Where a ratio says something."""


def compared(rooms: Sequence[NetworkRoom]) -> dict[str, object]:
    """What the template of the page needs."""
    return {"table": table_of(rooms), "pairs": pair_files(rooms), "first": FIRST_PAIR}


def table_of(rooms: Sequence[NetworkRoom]) -> list[ComparedRow]:
    """The figures by which networks are compared."""

    def counted(name: str, numbers: list[int]) -> ComparedRow:
        return ComparedRow(name=name, texts=[count(number) for number in numbers], numbers=numbers)

    def sized(name: str, numbers: list[int]) -> ComparedRow:
        return ComparedRow(name=name, texts=[size(number) for number in numbers], numbers=numbers)

    def told(name: str, texts: list[str]) -> ComparedRow:
        return ComparedRow(name=name, texts=texts, numbers=None)

    summaries = [room.summary for room in rooms]
    return [
        told("year", [str(room.paper.year) for room in rooms]),
        told("input", [f"{one.spec.in_channels} x {one.spec.resolution} x {one.spec.resolution}" for one in summaries]),
        told("classes", [count(one.spec.num_classes) for one in summaries]),
        counted("depth", [one.layers.depth for one in summaries]),
        counted("parameters", [one.footprint.params for one in summaries]),
        counted("MACs", [one.footprint.macs for one in summaries]),
        sized("weights, 32 bits", [one.footprint.weight_bytes_32_bits for one in summaries]),
        sized("activations at once", [one.footprint.peak_activation_bytes for one in summaries]),
        told("published error", [" ".join((room.error[0], f"({room.error[1]})")) for room in rooms]),
        told("what was new", [room.exhibit.brought for room in rooms]),
    ]


def pairs(rooms: Sequence[NetworkRoom]) -> list[tuple[NetworkRoom, NetworkRoom, str]]:
    """Every two networks, with the path of their drawing without its suffix."""
    return [(one, other, f"drawings/{one.exhibit.name}-{other.exhibit.name}") for one, other in combinations(rooms, 2)]


def pair_files(rooms: Sequence[NetworkRoom]) -> list[tuple[NetworkRoom, NetworkRoom, str, list[DrawingFile]]]:
    """The same with the drawing's files."""
    return [(one, other, path, files_of(path)) for one, other, path in pairs(rooms)]


def pair_drawings(rooms: Sequence[NetworkRoom]) -> Iterator[tuple[str, bytes]]:
    """The drawings of all pairs, by their paths."""
    for one, other, path in pairs(rooms):
        drawing = laid_out([one.drawn["overview"], other.drawn["overview"]], "overview")
        for file in files_of(path):
            yield file.path, written(drawing, file.kind)
