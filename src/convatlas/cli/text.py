"""Names as a terminal can show them: they may hold anything, and a terminal obeys control characters."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import IO

UNDECODED = re.compile("[\ud800-\udfff]")
"""Bytes of a file name that are not UTF-8, as Python holds them."""
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""These, control characters, line separators, and what turns the direction of writing."""
SIGNS = str.maketrans({"×": "x", "±": "+/-", "·": "*", "–": "-", "…": "...", "“": '"', "”": '"'})
"""Our own, where the terminal has no others."""


def visible(text: str, encoding: str = "utf-8") -> str:
    """The text on one line, with an escape in place of each character that cannot be shown.

    A newline is shown as \\n, the escape character as \\x1b, and a byte of a file name that is not UTF-8 as \\xe9.

    Args:
        encoding: the terminal's; of what it lacks, our own signs are spelled in ASCII, and the rest is escaped.
    """
    text = OBEYED.sub(_escape, text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(SIGNS).encode(encoding, "backslashreplace").decode(encoding)
    return text


def valid_unicode(text: str) -> str:
    """The text as programs may read it: only bytes of a file name that are not UTF-8 are escaped."""
    return UNDECODED.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


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
