"""The options of commands that draw networks, and the files that they write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from convatlas.cli.completion import level_names
from convatlas.cli.console import print_facts
from convatlas.errors import UserError

if TYPE_CHECKING:
    from convatlas.draw import DrawingFormat

DRAWING = "Drawing"
Svg = Annotated[
    Path | None,
    typer.Option("--svg", metavar="FILE", help="Write a drawing as SVG, for screens.", rich_help_panel=DRAWING),
]
Pdf = Annotated[
    Path | None,
    typer.Option("--pdf", metavar="FILE", help="Write a drawing as PDF, for print.", rich_help_panel=DRAWING),
]
Tikz = Annotated[
    Path | None,
    typer.Option("--tikz", metavar="FILE", help="Write a drawing as TikZ, for LaTeX.", rich_help_panel=DRAWING),
]
Level = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL",
        autocompletion=level_names,
        help="What the drawing shows: overview (a slide, the default), stages (each unit's branches) or layers "
        "(every layer by name).",
        rich_help_panel=DRAWING,
    ),
]


class Drawings(NamedTuple):
    """What a person wants drawn."""

    svg: Path | None
    pdf: Path | None
    tikz: Path | None
    level: str | None

    def write(self, draw: Callable[[Any, DrawingFormat], bytes]) -> list[Path]:
        """Write the files that are wanted, and return their paths.

        Args:
            draw: gives a file's content at a level in a format.

        Raises:
            UserError: a level is chosen for no drawing, or there is no such level.
        """
        wanted: list[tuple[DrawingFormat, Path | None]] = [("svg", self.svg), ("pdf", self.pdf), ("tikz", self.tikz)]
        files = [(file_format, path) for file_format, path in wanted if path is not None]
        if self.level is not None and not files:
            raise UserError("--level says what a drawing shows; give --svg, --pdf or --tikz with a file too")
        # All before any: a mistake leaves no file.
        contents = [(path, draw(self.level or "overview", file_format)) for file_format, path in files]
        for path, content in contents:
            write_file(path, content)
        return [path for path, _ in contents]


def write_file(path: Path, content: bytes) -> None:
    """Write a drawing: whole or not at all.

    Raises:
        UserError: the path is a folder's.
    """
    from convatlas.files import write

    if path.is_dir():
        raise UserError(f"{path} is a folder; give the drawing a file's name")
    write(path, content)


def as_values(paths: Sequence[Path]) -> dict[str, Any]:
    """The written drawings for a JSON object; without any, nothing."""
    return {"drawings": [str(path) for path in paths]} if paths else {}


def print_paths(paths: Sequence[Path]) -> None:
    print_facts([("drawing", str(path)) for path in paths])
