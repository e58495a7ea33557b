"""convatlas cache list, convatlas cache clear"""

from __future__ import annotations

from datetime import datetime

import typer

from convatlas.cli.console import Column, Json, count, print_json, print_line, print_table, size
from convatlas.files import decoded_folder
from convatlas.files.decoded_cache import clear, entries, footprint, limit

cache = typer.Typer(help="The cache of decoded images.", no_args_is_help=True)


@cache.command("list")
def list_entries(json: Json = False) -> None:
    """List the image folders whose decoded images are cached, the last used first."""
    folder = decoded_folder()
    found = entries(folder)
    used = [datetime.fromtimestamp(entry.used).astimezone() for entry in found]
    if json:
        print_json(
            {
                "cache": str(folder),
                "bytes": footprint(folder),
                "limit_bytes": limit(),
                "entries": [
                    {
                        "folder": entry.source,
                        "images": entry.num_images,
                        "side": entry.side,
                        "kind": entry.kind,
                        "bytes": entry.num_bytes,
                        "last_used": when.isoformat(timespec="seconds"),
                    }
                    for entry, when in zip(found, used, strict=True)
                ],
            }
        )
        return
    if found:
        print_table(
            [
                Column("folder", wrap=True),
                Column("images", right=True),
                Column("side", right=True),
                Column("kind"),
                Column("size", right=True),
                Column("last used"),
            ],
            [
                (
                    entry.source,
                    count(entry.num_images),
                    f"{entry.side} px",
                    entry.kind,
                    size(entry.num_bytes),
                    f"{when:%Y-%m-%d %H:%M}",
                )
                for entry, when in zip(found, used, strict=True)
            ],
        )
        print_line()
    print_line(f"{size(footprint(folder))} of at most {size(limit())} in {folder}")


@cache.command("clear")
def clear_entries() -> None:
    """Remove all cached images; they are decoded again when needed."""
    folder = decoded_folder()
    freed, busy = clear(folder)
    print_line(f"freed {size(freed)} in {folder}")
    for entry in busy:
        print_line(f"left {entry}, which is in use")
