"""Numbers as text for people, and back: counts, sizes, durations, percentages; and names that may hold anything."""

from __future__ import annotations

import re

from rich.cells import cell_len, chop_cells

POWERS = "KMGT"
UNDECODED = re.compile("[\ud800-\udfff]")
"""Bytes of a file name that are not UTF-8, as Python holds them."""
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""These, control characters, line separators, what turns the direction of writing, and what is no character at all."""
SIGNS = str.maketrans({"×": "x", "±": "+/-", "·": "*", "–": "-", "…": "...", "“": '"', "”": '"'})
"""Our own, where the terminal has no others."""


def count(number: int) -> str:
    """60,000"""
    return f"{number:,}"


def round_count(number: int) -> str:
    """0 to 999, 60.0 K, 4.23 M, 138 M, 15.5 G: three digits, with a power of 1000"""
    if number < 1000:
        return str(number)
    # Rounding may carry: 999,999 is 1.00 M.
    digits, exponent = f"{number:.2e}".split("e")
    power, shift = divmod(int(exponent), 3)
    return f"{float(digits) * 10**shift:.{2 - shift}f} {POWERS[power - 1]}"


def plural(number: int, noun: str) -> str:
    """1 thread, 2 threads"""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def size(num_bytes: int) -> str:
    """1.5 GiB, 4.8 MiB, 312 KiB"""
    unit, power = ("GiB", 30) if num_bytes >= 2**30 else ("MiB", 20) if num_bytes >= 2**20 else ("KiB", 10)
    return f"{num_bytes / 2**power:,.1f} {unit}"


def parse_size(text: str) -> int | None:
    """Bytes of a size as 500, 20 GB or 1.5GiB: K, M, G and T are powers of 1000, with an i of 1024; else None."""
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)\s*(?:([{POWERS}])(i?))?B?", text.strip(), re.IGNORECASE)
    if match is None:
        return None
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** (POWERS.index(unit.upper()) + 1 if unit else 0))


def duration(seconds: float) -> str:
    """8.3 s, 4 min 05 s, 2 h 03 min"""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def percent(fraction: float) -> str:
    """98.37 %"""
    return f"{100 * fraction:.2f} %"


def shorten(name: str, most: int) -> str:
    """The name, or as much of its beginning and its end as fits into `most` columns, of which some characters take two.

    Names differ at their ends as often as at their beginnings.
    """
    if cell_len(name) <= most:
        return name
    half = (most - 1) // 2
    tail = name
    # Neither does a tail begin with an accent of the letter before.
    while cell_len(tail) > half or not cell_len(tail[0]):
        tail = tail[1:]
    return f"{chop_cells(name, most - 1 - half)[0]}…{tail}"


def visible(text: str, encoding: str = "utf-8") -> str:
    """The text on one line, with an escape in place of each character that cannot be shown or that a terminal obeys.

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
