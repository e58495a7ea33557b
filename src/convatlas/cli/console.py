"""What the commands print: tables for people, plain lines for pipes, one JSON object for programs."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import typer
from rich.cells import cell_len

from convatlas.cli.completion import network_names
from convatlas.cli.signals import last_words, stopped_by
from convatlas.cli.streams import encoding_of
from convatlas.formatting import count as count
from convatlas.formatting import duration as duration
from convatlas.formatting import percent as percent
from convatlas.formatting import shorten, valid_unicode, visible
from convatlas.formatting import size as size

MACHINE = "Machine"
Network = Annotated[
    str, typer.Argument(help="Name of a network; convatlas list shows all.", autocompletion=network_names)
]
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
Trained = Annotated[
    Path,
    typer.Argument(
        help="A run folder, a model folder, a .cva file, published weights as torchvision:resnet18, or a model on the "
        "hub as hf:OWNER/NAME.",
        metavar="MODEL",
    ),
]
MovedData = Annotated[
    str | None,
    typer.Option(
        help="The data set that the model was trained on, if it was moved: a name, a folder or hf:NAME. For published "
        "weights, labeled images of their classes."
    ),
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
MAX_NAME_COLUMNS = 60
"""Of a class's name in a terminal: a few lines of a column."""


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


def print_line(text: object = "", *, err: bool = False, bold: bool = False, nl: bool = True) -> None:
    """One line, whatever names are in it."""
    stream = sys.stderr if err else sys.stdout
    shown = visible(str(text), encoding_of(stream))
    typer.echo(typer.style(shown, bold=True) if bold else shown, file=stream, nl=nl)


def print_error(message: str) -> None:
    """One line on standard error."""
    print_line(f"convatlas: {message}", err=True)


def signal_exit(number: int, how_to_continue: str) -> typer.Exit:
    """Print which signal stopped the command, and return the exit with its status (128 + the signal's number)."""
    with last_words():
        print_error(f"{stopped_by(number)}; {how_to_continue}")
    return typer.Exit(128 + number)


def print_json(value: Any) -> None:
    """One JSON object in ASCII on standard output.

    JSON has no NaN and no infinity, so they become null, and no bytes that are not UTF-8: those of names are escaped
    as in tables, as \\xe9. All other characters are the names' own.
    """
    typer.echo(json.dumps(_valid(value), indent=2, allow_nan=False), file=sys.stdout)


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return valid_unicode(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _valid(part) for key, part in value.items()}
    return [_valid(part) for part in value] if isinstance(value, list | tuple) else value


def short_name(name: str) -> str:
    """A class's name for a table: in a terminal the middle of a long one is left out, elsewhere it is whole."""
    return shorten(visible(name, encoding_of(sys.stdout)), MAX_NAME_COLUMNS) if sys.stdout.isatty() else name


def print_heading(text: str) -> None:
    print_line(text, bold=True)


def print_text(text: str) -> None:
    """A paragraph, wrapped in a terminal."""
    if not sys.stdout.isatty():
        print_line(text)
        return
    for line in textwrap.wrap(text, terminal_columns(), break_long_words=False, break_on_hyphens=False):
        print_line(line)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print_line(f"{name.ljust(width)}  {value}")


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output: drawn in a terminal wide enough for it, aligned plain lines elsewhere."""
    # First, because an escape is longer than what it stands for.
    rows = [[visible(cell, encoding_of(sys.stdout)) for cell in row] for row in rows]
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
    return [max(cell_len(row[i]) for row in ([column.title for column in columns], *rows)) for i in range(len(columns))]


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
        print_line("  ".join(_padded(cell, width, column) for cell, width, column in cells).rstrip())
        if below and row[-1]:
            for line in textwrap.wrap(row[-1], terminal_columns(), initial_indent="    ", subsequent_indent="    "):
                print_line(line)


def _padded(cell: str, width: int, column: Column) -> str:
    # Of some characters one takes two columns, and of others many take one.
    spaces = " " * (width - cell_len(cell))
    return spaces + cell if column.right else cell + spaces


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
