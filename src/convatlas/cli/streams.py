"""Standard output and error, which take any text."""

from __future__ import annotations

import io
import os
import sys
from typing import IO


def encoding_of(stream: IO[str]) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def prepare_streams() -> None:
    """Let no text that is printed be an error, whoever prints it, and no stream be missing."""
    # A shell may close them, as in `convatlas list >&-`.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # In notebooks they are of other kinds.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
