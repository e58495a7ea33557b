"""Checkpoints: the format is told by the content, and what no network has is refused in one line."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from convatlas.errors import UserError
from convatlas.weights.checkpoint import Checkpoint, CheckpointError, Format
from convatlas.weights.reading import read_checkpoint

FORMATS = ("archive", "pickles", "safetensors", "caffe")


@pytest.fixture
def written(tmp_path: Path, layer: Any, encoder: Any) -> Callable[[str, dict[str, Tensor]], Path]:
    """The path of a file in one of the formats, with a suffix that says nothing."""

    def write(form: str, weights: dict[str, Tensor]) -> Path:
        path = tmp_path / f"{form}.bin"
        if form == "safetensors":
            save_file(weights, path)
        elif form == "caffe":
            layers = []
            for name, tensor in weights.items():
                layers.append(layer(name.removesuffix(".weight"), "InnerProduct", blobs=(tensor.numpy(),)))
            path.write_bytes(encoder().network(layers))
        else:
            torch.save(weights, path, _use_new_zipfile_serialization=form == "archive")
        return path

    return write


@pytest.mark.parametrize("form", FORMATS)
def test_the_content_tells_the_format(form: str, written: Any) -> None:
    weights = {"a.weight": torch.randn(3, 5), "b.weight": torch.randn(2, 2)}
    path = written(form, weights)
    found = read_checkpoint(path)
    assert isinstance(found, Checkpoint)
    assert found.path == path
    expected = {"safetensors": Format.SAFETENSORS, "caffe": Format.CAFFE}.get(form, Format.PYTORCH)
    assert found.format == expected
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.tensors.keys() == weights.keys()
    assert all(torch.equal(found.tensors[name], weights[name]) for name in weights)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_unless_asked_for(form: str, value: float, written: Any) -> None:
    weights = {"a.weight": torch.ones(3, 500), "b.weight": torch.ones(3, 500)}
    weights["b.weight"][1, 333] = value
    path = written(form, weights)
    with pytest.raises(
        CheckpointError, match=r"^.*\.bin is no trained network: b\.weight holds numbers that are infinite"
    ):
        read_checkpoint(path)
    found = read_checkpoint(path, allow_nan=True).tensors["b.weight"]
    assert np.array_equal(found.numpy(), weights["b.weight"].numpy(), equal_nan=True)


@pytest.mark.parametrize("form", ["archive", "pickles", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_stay_as_they_are(form: str, dtype: torch.dtype, written: Any) -> None:
    weights = {"a.weight": torch.randn(3, 5).to(dtype), "a.num_batches_tracked": torch.tensor(7)}
    found = read_checkpoint(written(form, weights)).tensors
    assert found["a.weight"].dtype == dtype
    assert found["a.num_batches_tracked"] == 7
    weights["a.weight"][0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"a\.weight holds numbers that are infinite or none \(NaN\)$"):
        read_checkpoint(written(form, weights))


@pytest.mark.parametrize("form", ["archive", "pickles", "safetensors"])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a.weight": torch.ones(2, dtype=torch.int64)}, r"holds a\.weight as int64; weights are float32, float16"),
        ({"a.weight": torch.ones(2, dtype=torch.bool)}, r"holds a\.weight as bool; weights are float32, float16"),
        ({"a.weight": torch.ones(0, 3)}, r"holds a\.weight without numbers, in the shape \(0, 3\)$"),
        ({"a.weight": torch.ones(1, 2**60, 0, 0)}, r"holds a\.weight without numbers, in the shape \(1, 1152921504606"),
        ({"a\nb": torch.ones(2)}, r"has a tensor with a name that no layer has: a\\nb$"),
        ({"a" * 1000: torch.ones(2)}, r"has a tensor with a name that no layer has: a{50}$"),
    ],
)
def test_tensors_that_no_network_has_are_refused(form: str, weights: Any, message: str, written: Any) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(written(form, weights))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty$"),
        (b"hello, world", "is no file of weights; known are PyTorch"),
        (b"\x00" * 100, "is no file of weights; known are PyTorch"),
        (b"\xff" * 100, "is no file of weights; known are PyTorch"),
        (b"\xff" * 8 + b"{", "is no whole safetensors file: "),
        (b"PK\x03\x04", "is a damaged zip archive, or half of one: "),
        (b"\x80", "is a damaged pickle, or half of one: "),
        (b"<!DOCTYPE html>", "is no file of weights; known are PyTorch"),
    ],
)
def test_files_that_are_nothing_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no .*none\.pth$"):
        read_checkpoint(tmp_path / "none.pth")
    os.mkfifo(pipe := tmp_path / "pipe.pth")
    for path in (tmp_path, pipe, Path("/dev/zero")):
        with pytest.raises(UserError, match=rf"^{path} is a folder, a device or a pipe, not a file$"):
            read_checkpoint(path)
