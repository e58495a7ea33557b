"""Checkpoints from files of any format, which their content tells and not their names."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from convatlas.errors import UserError
from convatlas.files.regular import check_regular
from convatlas.formatting import visible
from convatlas.weights.checkpoint import Checkpoint, CheckpointError, Format
from convatlas.weights.formats import caffemodel, keras, safetensors_file, torch_file
from convatlas.weights.mapping import COUNTERS

HDF5 = b"\x89HDF"
SAFETENSORS_LENGTH_BYTES = 8
"""Of the header's length, before the header."""
SUFFIX_OF_CAFFE = ".caffemodel"
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MAX_NAME = 500
"""Characters of a tensor's name."""


def read_checkpoint(path: Path, *, allow_nan: bool = False) -> Checkpoint:
    """Read another library's weights. What the file allows stays in it, mapped into memory.

    Args:
        allow_nan: whether weights may be infinite or no number.

    Raises:
        UserError: there is no such file, or it is a folder, a device or a pipe.
        CheckpointError: it is none of a format that is known, it is damaged, or it holds what no network has.
    """
    try:
        check_regular(path)
        form = format_of(path)
        # Hashing leaves the interpreter to others, and so do Keras's files, which another process opens.
        with ThreadPoolExecutor(1) as hashing:
            sha256 = hashing.submit(checksum, path)
            tensors = read_tensors(path, form)
            for name, tensor in tensors.items():
                check(name, tensor, path, allow_nan)
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    return Checkpoint(path, form, tensors, sha256.result())


def format_of(path: Path) -> Format:
    """
    Raises:
        CheckpointError: the file is empty.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(SAFETENSORS_LENGTH_BYTES + 1)
    if not head:
        raise CheckpointError(f"{path} is empty")
    # First, for the length may begin as another file does.
    if head[SAFETENSORS_LENGTH_BYTES:] == b"{":
        return Format.SAFETENSORS
    if head.startswith((torch_file.ZIP, torch_file.PICKLE)):
        return Format.PYTORCH
    return Format.KERAS if head.startswith(HDF5) else Format.CAFFE


def is_checkpoint(path: Path) -> bool:
    """Whether a file begins as weights alone do, or is called as Caffe's are.

    Raises:
        CheckpointError: the file is empty.
        OSError: it cannot be read.
    """
    return format_of(path) is not Format.CAFFE or path.suffix == SUFFIX_OF_CAFFE


def read_tensors(path: Path, form: Format) -> dict[str, Tensor]:
    match form:
        case Format.PYTORCH:
            return torch_file.read(path)
        case Format.SAFETENSORS:
            return safetensors_file.read(path)
        case Format.CAFFE:
            # What has no other format's beginning: Caffe's files have none of their own.
            try:
                return caffemodel.read(path)
            except CheckpointError as error:
                if path.suffix == SUFFIX_OF_CAFFE:
                    raise
                raise CheckpointError(f"{path} is no file of weights; known are {', '.join(Format)}") from error
        case Format.KERAS:
            return keras.read(path)


def checksum(path: Path) -> str:
    """The SHA-256 of a file, which is read once more: hashing takes far longer."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(name: str, tensor: Tensor, path: Path, allow_nan: bool) -> None:
    """
    Raises:
        CheckpointError: it is no tensor that a network has.
    """
    if len(name) > MAX_NAME or visible(name) != name:
        raise CheckpointError(f"{path} has a tensor with a name that no layer has: {visible(name)[:50]}")
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise CheckpointError(f"{path} holds {name} as {tensor.layout} on {tensor.device}, not as numbers in order")
    if tensor.dtype not in FLOATS and not name.endswith(COUNTERS):
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise CheckpointError(f"{path} holds {name} as {dtype}; weights are float32, float16, bfloat16 or float64")
    if not tensor.numel():
        # Its sides may be anything then, also what no network can be built with.
        raise CheckpointError(f"{path} holds {name} without numbers, in the shape {tuple(tensor.shape)}")
    if not allow_nan and not is_finite(tensor):
        raise CheckpointError(f"{path} is no trained network: {name} holds numbers that are infinite or none (NaN)")


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are; without a copy, as `isfinite` needs it."""
    if not tensor.is_floating_point():
        return True
    # In the order of its memory: of a permuted view the numbers would be copied.
    in_order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    least, most = tensor.permute(in_order).aminmax()
    return bool(least.isfinite() and most.isfinite())
