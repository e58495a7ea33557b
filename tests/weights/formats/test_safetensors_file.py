"""safetensors: headers that say what is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from convatlas.weights.checkpoint import CheckpointError
from convatlas.weights.formats import safetensors_file


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """The tensors of a file with this header and so many bytes after it."""

    def read_file(header: Any, num_bytes: int = 16, length: int | None = None) -> dict[str, Tensor]:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path = tmp_path / "net.safetensors"
        path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(num_bytes))
        return safetensors_file.read(path)

    return read_file


def entry(begin: int, end: int, shape: Any = None, dtype: str = "F32") -> Any:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def test_tensors_of_all_precisions_are_read(tmp_path: Path) -> None:
    dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64)
    weights = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in dtypes}
    save_file(weights, tmp_path / "net.safetensors", metadata={"format": "pt"})
    found = safetensors_file.read(tmp_path / "net.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) and found[name].dtype == weights[name].dtype for name in weights)


def test_a_header_is_taken_by_its_word_only_where_the_file_bears_it_out(read: Any) -> None:
    assert read({"a": entry(0, 16)})["a"].shape == (4,)


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({"a": entry(0, 16)}, {"length": 2**63}),
        ({"a": entry(0, 16)}, {"length": 2**64 - 1}),
        ({"a": entry(0, 16)}, {"length": 200_000_000}),
        ({"a": entry(0, 16)}, {"length": 1000}),
        ({"a": entry(0, 16)}, {"length": 10}),
        ({"a": entry(0, 16)}, {"num_bytes": 8}),
        ({"a": entry(0, 16)}, {"num_bytes": 24}),
        ({"a": entry(0, 12), "b": entry(8, 16)}, {}),
        ({"a": entry(0, 8), "b": entry(0, 8)}, {"num_bytes": 8}),
        ({"a": entry(0, 4), "b": entry(8, 16)}, {}),
        ({"a": entry(16, 0)}, {}),
        ({"a": entry(0, 16, [2**31, 2**31, 2**31])}, {}),
        ({"a": entry(0, 16, [5])}, {}),
        ({"a": entry(0, 16, [-4])}, {}),
        ({"a": entry(0, 16, dtype="F7")}, {}),
        (b"{" * 100_000, {}),
        (b'{"a": ' + b"[" * 100_000, {}),
        (b"{\xff\xfe}", {}),
    ],
)  # fmt: skip
def test_headers_that_say_what_is_not_there_are_refused(header: Any, changes: Any, read: Any) -> None:
    with pytest.raises(CheckpointError, match=r"net\.safetensors is no whole safetensors file: ") as caught:
        read(header, **changes)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000
