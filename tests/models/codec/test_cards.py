"""Records in files: short, exact, and of bounded length whatever is read."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable

import pytest
from convatlas.models.codec.records import MOST_BYTES, RAW, compact, deflated, inflated, typical
from hypothesis import given
from hypothesis import strategies as st

from convatlas.errors import UserError
from convatlas.models.codec.bytestream import Damaged
from convatlas.runs.run import Run


@given(st.binary(max_size=3000))
def test_anything_comes_back(content: bytes) -> None:
    assert inflated(deflated(content)) == content


def test_files_that_are_about_can_still_be_read() -> None:
    # What they were deflated with; docs/compressed.md names it.
    assert hashlib.sha256(typical()).hexdigest().startswith("846731f364e002c1")


def test_a_record_takes_a_few_hundred_bytes(family: str, finished: Callable[..., Run]) -> None:
    content = compact(finished(family).record)
    assert json.loads(content)["variant"] == family
    assert len(deflated(content)) < 450 < len(content) / 3


def test_what_is_none_is_refused() -> None:
    whole = deflated(b"{}" * 1000)
    for content in (b"", whole[:-1], whole + b"x", b"\xff\xff"):
        with pytest.raises(Damaged, match="its record"):
            inflated(content)


def test_a_bomb_is_refused() -> None:
    deflate = zlib.compressobj(wbits=RAW, zdict=typical())
    bomb = deflate.compress(bytes(10**8)) + deflate.flush()
    assert len(bomb) < 10**5
    with pytest.raises(Damaged, match="another length"):
        inflated(bomb)


def test_a_longer_one_is_not_written() -> None:
    with pytest.raises(UserError, match="of which a file can hold 256 KiB"):
        deflated(bytes(MOST_BYTES + 1))
