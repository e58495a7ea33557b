"""How the command speaks: tables for people, plain lines for pipes, one object for programs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer

from convatlas.formatting import count as count
from convatlas.formatting import duration as duration
from convatlas.formatting import percent as percent
from convatlas.formatting import size as size

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")]
Width = Annotated[float, typer.Option(help="Multiplier of every internal channel count.")]
Depth = Annotated[float, typer.Option(help="Multiplier of what the paper repeats.")]
Resolution = Annotated[int | None, typer.Option(help="Side of the input in pixels.")]
Phi = Annotated[float, typer.Option(help="EfficientNet's compound coefficient, for any network.")]
MACHINE = "Machine"
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda or mps; the fastest that is there.", rich_help_panel=MACHINE)
]
Autotune = Annotated[
    bool,
    typer.Option(
        "--autotune/--no-autotune",
        help="Time a few steps first, and choose the fastest way of computing.",
        rich_help_panel=MACHINE,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


class Column(NamedTuple):
    title: str
    right: bool = False
    """Numbers stand right."""
    wrap: bool = False
    """Whether it may be broken where the terminal is narrow."""


def speaks() -> bool:
    """Whether this process speaks to the person: of those that torchrun started one does."""
    return os.environ.get("RANK", "0") == "0"


def complain(message: str) -> None:
    """One line on standard error."""
    typer.echo("convatlas: " + " ".join(message.split()), err=True)


def stopped_by(number: int, how_to_go_on: str) -> typer.Exit:
    """Says which signal stopped the command, and gives the exit that says so too."""
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    complain(f"stopped by {name}; {how_to_go_on}")
    return typer.Exit(128 + number)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def print_heading(text: str) -> None:
    typer.secho(text, bold=True)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output: drawn in a terminal wide enough for it, aligned plain lines elsewhere."""
    table = [[column.title for column in columns], *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    narrowest = [min(width, 16) if column.wrap else width for width, column in zip(widths, columns, strict=True)]
    # Drawn where it does not fit, a table would lose digits.
    if not sys.stdout.isatty() or sum(narrowest) + 3 * len(columns) > shutil.get_terminal_size().columns:
        for row in table:
            cells = zip(row, widths, columns, strict=True)
            line = "  ".join(cell.rjust(width) if column.right else cell.ljust(width) for cell, width, column in cells)
            typer.echo(line.rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.wrap,
            overflow="fold",
        )
    for row in rows:
        # Text, because a file's name may look like rich's own markup.
        drawn.add_row(*map(Text, row))
    Console().print(drawn)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        typer.echo(f"{name.ljust(width)}  {value}")
