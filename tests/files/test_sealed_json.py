"""JSON that knows its own checksum: what it says cannot change unnoticed, and how it is laid out does not matter."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.errors import UserError
from convatlas.files.sealed_json import SHA256, ChecksumError, sealed_json, unsealed
from convatlas.files.typed_json import MalformedJsonError, as_file_error, parsed_object

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text().filter(lambda name: name != SHA256), JSON, max_size=5)


@given(OBJECTS, st.sampled_from([None, 2]))
def test_an_object_comes_back_however_it_is_laid_out(values: dict[str, Any], indent: int | None) -> None:
    written = json.loads(sealed_json(values, indent=indent))
    assert unsealed(written) == values
    backwards = dict(reversed(written.items()))
    assert unsealed(json.loads(json.dumps(backwards, indent=7, ensure_ascii=False))) == values


@given(OBJECTS.filter(bool), JSON, st.data())
def test_another_value_or_name_is_noticed(values: dict[str, Any], other: Any, data: st.DataObject) -> None:
    written = json.loads(sealed_json(values))
    name = data.draw(st.sampled_from(list(written)))
    if json.dumps(written[name], sort_keys=True) != json.dumps(other, sort_keys=True):
        with pytest.raises(ChecksumError):
            unsealed(written | {name: other})
    name = data.draw(st.sampled_from(list(values)))
    value = written.pop(name)
    with pytest.raises(ChecksumError):
        unsealed(written)
    with pytest.raises(ChecksumError):
        unsealed(written | {f"{name}'": value})


def test_who_edits_a_file_by_hand_removes_one_line() -> None:
    lines = sealed_json({"format": 3, "seed": 0}).decode().replace('"seed": 0', '"seed": 1').splitlines()
    said = re.escape(
        "some/run.json: its checksum is not its content's, so that it is damaged or was edited by hand; if"
    )
    with pytest.raises(UserError, match=said), as_file_error("some/run.json"):
        parsed_object("\n".join(lines).encode(), 3)
    (checksum,) = [line for line in lines if f'"{SHA256}"' in line]
    lines.remove(checksum)
    assert parsed_object("\n".join(lines).encode(), 3) == {"format": 3, "seed": 1}


def test_nesting_of_any_depth_is_an_error_of_ours() -> None:
    """Where reading fails, and a little before, where only writing does."""
    for depth in range(1200):
        content = f'{{"format": 1, "{SHA256}": "", "deep": {"[" * depth}{"]" * depth}}}'.encode()
        with pytest.raises((ChecksumError, MalformedJsonError)):
            parsed_object(content, 1)
