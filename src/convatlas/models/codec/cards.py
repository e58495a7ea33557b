"""The card in a compressed file: short JSON, deflated as if cards like it had come before.

Of a network of some kilobytes the card would be a good part otherwise. Files of version 1 hold a run's record instead,
and are read as the card in it.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from functools import cache
from importlib.resources import files

from convatlas.errors import UserError
from convatlas.files.typed_json import MalformedJsonError, encoded, parsed_object
from convatlas.formatting import size
from convatlas.models import card, earlier
from convatlas.models.card import Card
from convatlas.models.codec.bytestream import DamagedFileError

MAX_BYTES = 2**18
"""Of the JSON."""
RAW = -15
"""A window of 2^15 bytes, and neither a header nor a checksum: the file has its own."""
DICTIONARIES = {1: "typical-record.txt", 2: "typical-card.txt"}
"""What cards mostly say, by the file's version. Files can be read as long as these stay as they are."""


@cache
def dictionary(version: int) -> bytes:
    return files(__package__).joinpath(DICTIONARIES[version]).read_bytes()


def compact(own: Card) -> bytes:
    """The card as short JSON, without what is empty or of no use in a file."""
    of_file = replace(own, weights_sha256=None, provenance=replace(own.provenance, parent_sha256=None))
    values = {name: value for name, value in encoded(of_file).items() if value is not None}
    values["provenance"] = {name: value for name, value in values["provenance"].items() if value is not None}
    return json.dumps({"format": card.FORMAT, **values}, ensure_ascii=False, separators=(",", ":")).encode()


def card_from(content: bytes, version: int) -> Card:
    """The card that a file of that version holds as JSON.

    Raises:
        MalformedJsonError, UserError: it holds none.
    """
    if version == 1:
        values = parsed_object(content, earlier.FORMAT)
        if not values.get("results"):
            raise MalformedJsonError("its run was not finished")
        return earlier.card_from_record(values)
    return Card.from_values(parsed_object(content, card.FORMAT))


def deflated(content: bytes, version: int) -> bytes:
    """
    Raises:
        UserError: the JSON is too long.
    """
    if len(content) > MAX_BYTES:
        raise UserError(f"the model's card is {size(len(content))}, of which a file can hold 256 KiB")
    deflate = zlib.compressobj(zlib.Z_BEST_COMPRESSION, wbits=RAW, zdict=dictionary(version))
    return deflate.compress(content) + deflate.flush()


def inflated(content: bytes, version: int) -> bytes:
    """The JSON again.

    Raises:
        DamagedFileError: there is none, or it is too long.
    """
    inflate = zlib.decompressobj(RAW, zdict=dictionary(version))
    try:
        found = inflate.decompress(content, MAX_BYTES + 1)
    except zlib.error as error:
        raise DamagedFileError("its card cannot be inflated") from error
    if len(found) > MAX_BYTES or not inflate.eof or inflate.unused_data:
        raise DamagedFileError("its card has another length than it says")
    return found
