"""The card in a compressed file: short JSON, deflated as if cards like it had come before.

Of a network of some kilobytes the card would be a good part otherwise. Files of version 1 hold a run's record instead,
and are read as the card in it.
"""

from __future__ import annotations

import json
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.resources import files

from convatlas.errors import UserError
from convatlas.files.typed_json import MalformedJsonError, NewerFormatError, encoded, parsed_object, shown
from convatlas.formatting import size
from convatlas.models import bounds, card, earlier
from convatlas.models.bounds import Room, Shapes
from convatlas.models.card import Card
from convatlas.models.codec.bytestream import DamagedFileError
from convatlas.models.evaluation import score_of

MAX_BYTES = 2**18
"""Of the JSON."""
RAW = -15
"""A window of 2^15 bytes, and neither a header nor a checksum: the file has its own."""
CALLS = 200
"""Operations for each tensor of a network, at most, to build it and to find its shapes; see the tests."""
MAX_WEIGHTS = 2**28
"""Of a network, however large its file."""
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's control characters, halves of characters, and line breaks."""
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
    if own.score is not None:
        # The rest follows from them: 17 digits each, of which nothing deflates.
        values["score"] = {"num_errors": own.score.num_errors, "num_images": own.score.num_images}
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
    values = parsed_object(content, card.FORMAT)
    match values.get("score"):
        case {"num_errors": int(errors), "num_images": int(images), **rest} if 0 <= errors <= images != 0:
            values |= {"score": encoded(score_of(errors, images)) | rest}
    return Card.from_values(values)


@contextmanager
def as_damage() -> Iterator[None]:
    """Whatever goes wrong inside is the file's fault.

    Raises:
        DamagedFileError: something did.
        NewerFormatError: a newer version wrote it.
    """
    try:
        with bounds.as_malformed():
            yield
    except NewerFormatError:
        raise
    except (MalformedJsonError, UserError) as error:
        raise DamagedFileError(str(error)) from error


def described(content: bytes, version: int, num_tensors: int, max_numbers: int) -> tuple[Card, Shapes]:
    """The card of a compressed model and the shapes of its tensors.

    Args:
        content: the card's JSON.
        version: of the file.
        num_tensors: how many the file has.
        max_numbers: how many weights there can be in a file of that size.

    Raises:
        DamagedFileError: it is not a card, or its network has more than that, or takes more than any.
        UserError: it was written by a newer version.
    """
    with as_damage():
        found = card_from(content, version)
        check_shown(found)
        shapes = bounds.check(found, Room(min(max_numbers, MAX_WEIGHTS), CALLS * (num_tensors + 1)))
    if len(shapes) != num_tensors:
        raise DamagedFileError(f"it has {num_tensors} tensors and its network {len(shapes)}")
    return found, shapes


def check_shown(own: Card) -> None:
    """
    Raises:
        MalformedJsonError: the model is not finished, or a terminal would not show its names.
    """
    if own.score is None:
        raise MalformedJsonError("its model is not finished")
    for text in (own.variant, *own.classes, own.provenance.method, own.provenance.data):
        # It would obey control characters, and fail on halves of characters.
        if not UNPRINTABLE.isdisjoint(map(unicodedata.category, text)):
            raise MalformedJsonError(f"its card has text that cannot be shown: {shown(text)}")


def check_packable(own: Card) -> None:
    """
    Raises:
        UserError: it says what no file may.
    """
    try:
        check_shown(own)
        bounds.check_card(own)
    except MalformedJsonError as error:
        raise UserError(f"the model cannot be one file: {error}") from error


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
