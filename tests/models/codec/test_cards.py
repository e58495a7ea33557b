"""Cards in files: short, exact, and of bounded length whatever is read."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.errors import UserError
from convatlas.files.typed_json import MalformedJsonError
from convatlas.models.card import Card
from convatlas.models.codec.bytestream import DamagedFileError
from convatlas.models.codec.cards import MAX_BYTES, RAW, card_from, compact, deflated, dictionary, inflated
from convatlas.models.model import Model

versions = pytest.mark.parametrize("version", [1, 2])


@versions
@given(st.binary(max_size=3000))
def test_any_bytes_come_back(version: int, content: bytes) -> None:
    assert inflated(deflated(content, version), version) == content


@pytest.mark.parametrize(("version", "checksum"), [(1, "846731f364e002c1"), (2, "8a186d953772f626")])
def test_the_dictionaries_stay_as_they_are(version: int, checksum: str) -> None:
    # Files were deflated with them; docs/reference/cva.md names them.
    assert hashlib.sha256(dictionary(version)).hexdigest().startswith(checksum)


def test_a_card_takes_less_than_two_hundred_bytes(family: str, model_of: Callable[..., Model]) -> None:
    content = compact(model_of(family).card)
    assert json.loads(content)["variant"] == family
    assert len(deflated(content, 2)) < 200 < len(content) / 3.5


def test_a_card_comes_back_but_for_what_is_of_no_use_in_a_file(family: str, model_of: Callable[..., Model]) -> None:
    own = model_of(family).card
    derived = replace(own, provenance=replace(own.provenance, method="pruned", parent_sha256="ab" * 32))
    found = card_from(compact(derived), 2)
    assert found == replace(derived, weights_sha256=None, provenance=replace(derived.provenance, parent_sha256=None))


def test_the_card_in_a_record_of_version_1(
    family: str, model_of: Callable[..., Model], as_record: Callable[[Card], dict[str, Any]]
) -> None:
    own = model_of(family).card
    found = card_from(json.dumps(as_record(own)).encode(), 1)
    assert replace(found, weights_sha256=None) == replace(own, weights_sha256=None)


def test_the_record_of_an_unfinished_run_holds_no_card(
    model_of: Callable[..., Model], as_record: Callable[[Card], dict[str, Any]]
) -> None:
    values = as_record(model_of("lenet1").card) | {"results": None}
    with pytest.raises(MalformedJsonError, match="not finished"):
        card_from(json.dumps(values).encode(), 1)


@versions
def test_other_bytes_are_refused(version: int) -> None:
    whole = deflated(b"{}" * 1000, version)
    for content in (b"", whole[:-1], whole + b"x", b"\xff\xff"):
        with pytest.raises(DamagedFileError, match="its card"):
            inflated(content, version)


@versions
def test_a_bomb_is_refused(version: int) -> None:
    deflate = zlib.compressobj(wbits=RAW, zdict=dictionary(version))
    bomb = deflate.compress(bytes(10**8)) + deflate.flush()
    assert len(bomb) < 10**5
    with pytest.raises(DamagedFileError, match="another length"):
        inflated(bomb, version)


@versions
def test_a_longer_card_is_not_written(version: int) -> None:
    with pytest.raises(UserError, match="of which a file can hold 256 KiB"):
        deflated(bytes(MAX_BYTES + 1), version)
