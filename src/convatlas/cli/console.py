"""What the commands print: tables for people, plain lines for pipes, one JSON object for programs."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import typer

from convatlas.formatting import count as count
from convatlas.formatting import duration as duration
from convatlas.formatting import percent as percent
from convatlas.formatting import size as size

MACHINE = "Machine"
Network = Annotated[str, typer.Argument(help="Name of a network; convatlas list shows all.")]
Json = Annotated[bool, typer.Option("--json", help="Print only one JSON object to standard output.")]
Width = Annotated[float, typer.Option(help="Width multiplier: scales every internal channel count.")]
Depth = Annotated[float, typer.Option(help="Depth multiplier: scales the number of blocks per stage.")]
Resolution = Annotated[
    int | None, typer.Option(help="Side of the square input in pixels; by default the network's own.")
]
Phi = Annotated[
    float,
    typer.Option(help="EfficientNet's compound coefficient: scales depth, width and resolution of any network."),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or mps; by default the fastest that is available.", rich_help_panel=MACHINE),
]
Autotune = Annotated[
    bool,
    typer.Option(
        "--autotune/--no-autotune",
        help="Time a few steps first; choose the fastest precision, memory format, threads and compilation.",
        rich_help_panel=MACHINE,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Hide progress.")]

MIN_WRAPPED = 12
"""Characters to which a column may be wrapped."""


class Column(NamedTuple):
    title: str
    right: bool = False
    """Align to the right, as numbers."""
    wrap: bool = False
    """Wrap in a narrow terminal."""
    optional: bool = False
    """Hide in a terminal that is too narrow, the last such column first."""
    below: bool = False
    """For the last column: in a terminal that is too narrow, print it below the row."""


def is_main_process() -> bool:
    """Whether this process prints: under torchrun only the one of rank 0 does."""
    return os.environ.get("RANK", "0") == "0"


def print_error(message: str) -> None:
    """One line on standard error."""
    typer.echo("convatlas: " + " ".join(message.split()), err=True)


def signal_exit(number: int, how_to_continue: str) -> typer.Exit:
    """Print which signal stopped the command, and return the exit with its status (128 + the signal's number)."""
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    print_error(f"stopped by {name}; {how_to_continue}")
    return typer.Exit(128 + number)


def print_json(value: Any) -> None:
    """One JSON object on standard output; JSON has no NaN and no infinity, so they become null."""
    typer.echo(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def print_heading(text: str) -> None:
    typer.secho(text, bold=True)


def print_text(text: str) -> None:
    """A paragraph, wrapped in a terminal."""
    if sys.stdout.isatty():
        text = textwrap.fill(text, terminal_columns(), break_long_words=False, break_on_hyphens=False)
    typer.echo(text)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        typer.echo(f"{name.ljust(width)}  {value}")


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output: drawn in a terminal wide enough for it, aligned plain lines elsewhere."""
    if not sys.stdout.isatty():
        _print_plain(columns, rows)
        return
    shown = list(range(len(columns)))
    while not _fits(_select(columns, shown), [_select(row, shown) for row in rows]):
        optional = [i for i in shown if columns[i].optional]
        if not optional:
            break
        shown.remove(optional[-1])
    else:
        _draw(_select(columns, shown), [_select(row, shown) for row in rows])
        if hidden := [column.title for i, column in enumerate(columns) if i not in shown]:
            print_text(f"Hidden in {terminal_columns()} columns: {', '.join(hidden)}.")
        return
    # Drawn where it does not fit, a table would lose digits.
    _print_plain(columns, rows)


def fitting_groups(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[list[int]]:
    """The columns after the first, in groups that fit into the terminal beside the first; one group elsewhere."""
    groups: list[list[int]] = [[]]
    for i in range(1, len(columns)):
        shown = [0, *groups[-1], i]
        fits = not sys.stdout.isatty() or _fits(_select(columns, shown), [_select(row, shown) for row in rows])
        if groups[-1] and not fits:
            groups.append([])
        groups[-1].append(i)
    return groups


def terminal_columns() -> int:
    return shutil.get_terminal_size().columns


Part = TypeVar("Part")


def _select(row: Sequence[Part], shown: Sequence[int]) -> list[Part]:
    return [row[i] for i in shown]


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[i]) for row in ([column.title for column in columns], *rows)) for i in range(len(columns))]


def _fits(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the drawn table is no wider than the terminal; there are two spaces between columns."""
    widths = zip(_widths(columns, rows), columns, strict=True)
    least = [min(width, MIN_WRAPPED) if column.wrap else width for width, column in widths]
    return sum(least) + 2 * (len(columns) - 1) <= terminal_columns()


def _print_plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    below = columns[-1].below and sys.stdout.isatty()
    aligned = columns[:-1] if below else columns
    widths = _widths(aligned, rows)
    for row in ([column.title for column in columns], *rows):
        cells = zip(row, widths, aligned, strict=False)
        line = "  ".join(cell.rjust(width) if column.right else cell.ljust(width) for cell, width, column in cells)
        typer.echo(line.rstrip())
        if below and row[-1]:
            typer.echo(textwrap.fill(row[-1], terminal_columns(), initial_indent="    ", subsequent_indent="    "))


def _draw(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
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
