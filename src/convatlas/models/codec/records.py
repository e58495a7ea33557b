"""The record of a run in a compressed file: short JSON, deflated as if records like it had come before.

Of a network of some kilobytes a record would else be a good part.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from functools import cache
from importlib.resources import files

from convatlas.errors import UserError
from convatlas.formatting import size
from convatlas.models.codec.bytestream import Damaged
from convatlas.runs import Record

MOST_BYTES = 2**18
"""Of the JSON."""
RAW = -15
"""A window of 2^15 bytes, and neither a header nor a checksum: the file has its own."""


@cache
def typical() -> bytes:
    """What records mostly say. Files can be read as long as it stays as it is."""
    return files(__package__).joinpath("typical.txt").read_bytes()


def compact(record: Record) -> bytes:
    """The record as short JSON, without where on this machine its training began."""
    values = json.loads(replace(record, start=None, kept=None, freeze=False, distillation=None).to_json())
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def deflated(content: bytes) -> bytes:
    """
    Raises:
        UserError: the JSON is too long.
    """
    if len(content) > MOST_BYTES:
        raise UserError(f"the run's record is {size(len(content))}, of which a file can hold 256 KiB")
    deflate = zlib.compressobj(zlib.Z_BEST_COMPRESSION, wbits=RAW, zdict=typical())
    return deflate.compress(content) + deflate.flush()


def inflated(content: bytes) -> bytes:
    """The JSON again.

    Raises:
        Damaged: there is none, or it is too long.
    """
    inflate = zlib.decompressobj(RAW, zdict=typical())
    try:
        found = inflate.decompress(content, MOST_BYTES + 1)
    except zlib.error as error:
        raise Damaged("its record cannot be inflated") from error
    if len(found) > MOST_BYTES or not inflate.eof or inflate.unused_data:
        raise Damaged("its record has another length than it says")
    return found
