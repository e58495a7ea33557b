"""Keras's weights: `.h5`, the older format, and `.weights.h5`, Keras 3's; both are HDF5.

A process of its own tells where in the file the tensors lie (`keras_child`). They are mapped from there, so that
nothing is copied before it is used.
"""

from __future__ import annotations

import importlib.util
import json
import math
import mmap
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convatlas.errors import UserError
from convatlas.weights.checkpoint import CheckpointError

CHILD = "convatlas.weights.formats.keras_child"
MOST_SECONDS = 120
"""Of a clock, for the process; it limits its own processor time and memory."""

TYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


def convolution(kernel: Tensor) -> Tensor:
    """(height, width, in, out) to (out, in, height, width)."""
    return kernel.permute(3, 2, 0, 1)


def depthwise(kernel: Tensor) -> Tensor:
    """(height, width, channels, multiplier) to (channels x multiplier, 1, height, width)."""
    return kernel.permute(2, 3, 0, 1).flatten(0, 1).unsqueeze(1)


def kernel_of(stored: Tensor) -> Tensor:
    """A kernel of a layer that may be of any kind.

    Keras 3 calls the kernel of a depthwise convolution as that of others in `.h5`. One of several pixels with a single
    output is taken for depthwise: no network of Keras's has a convolution like that.
    """
    if stored.ndim == 2:
        return stored.t()
    height, width, _, outputs = stored.shape
    return depthwise(stored) if outputs == 1 and height * width > 1 else convolution(stored)


def unchanged(stored: Tensor) -> Tensor:
    return stored


ROLES: dict[str, tuple[str, Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "kernel": ("weight", kernel_of, (2, 4)),
    "depthwise_kernel": ("weight", depthwise, (4,)),
    "bias": ("bias", unchanged, (1,)),
    "gamma": ("weight", unchanged, (1,)),
    "beta": ("bias", unchanged, (1,)),
    "moving_mean": ("running_mean", unchanged, (1,)),
    "moving_variance": ("running_var", unchanged, (1,)),
    "mean": ("running_mean", unchanged, (1,)),
    "variance": ("running_var", unchanged, (1,)),
}
"""By Keras's word for a tensor: PyTorch's, what lays it out as PyTorch does, and how many dimensions it may have."""


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by the name of their layer, a dot and PyTorch's word for them.

    They are views of the file, mapped for reading: copy what must outlive a change of it.

    Raises:
        CheckpointError: it is damaged, holds what Keras does not write, or layers of unknown kinds.
        UserError: h5py is not installed.
        OSError: it cannot be read.
    """
    # Whether it can be read is asked first: the process would call it damaged.
    with path.open("rb"):
        return views(path, answer(path))


def views(path: Path, answer: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file that lie where `keras_child` says.

    Raises:
        CheckpointError: it says why there are none; or they lie nowhere, or have shapes that no layer has.
    """
    if "refused" in answer:
        raise refused(path, answer["refused"])
    tensors: dict[str, Tensor] = {}
    taken: list[tuple[int, int]] = []
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    for layer, role, dtype, shape, offset in answer["tensors"]:
        ending, lay_out, dimensions = ROLES[role]
        name = f"{layer}.{ending}"
        size = math.prod(shape) * TYPES[dtype].itemsize
        if name in tensors:
            raise refused(path, f"it has two {name!a}")
        if len(shape) not in dimensions or size == 0:
            raise refused(path, f"its {name!a} has the shape {tuple(shape)}")
        if not 0 <= offset <= len(content) - size:
            raise refused(path, f"cut short: its {name!a} ends beyond the end of the file")
        taken.append((offset, offset + size))
        tensors[name] = lay_out(at(content, TYPES[dtype], offset, shape))
    taken.sort()
    if any(end > begin for (_, end), (begin, _) in pairwise(taken)):
        raise refused(path, "two of its tensors overlap")
    return tensors


def at(content: mmap.mmap, dtype: torch.dtype, offset: int, shape: list[int]) -> Tensor:
    """A view of mapped bytes; a copy where they are not aligned."""
    num = math.prod(shape)
    if offset % dtype.itemsize:
        aligned = bytearray(content[offset : offset + num * dtype.itemsize])
        return torch.frombuffer(aligned, dtype=dtype).view(shape)
    return torch.frombuffer(content, dtype=dtype, count=num, offset=offset).view(shape)


def answer(path: Path) -> dict[str, Any]:
    """What the process answers.

    Raises:
        CheckpointError: it does not.
        UserError: h5py is not installed.
    """
    if importlib.util.find_spec("h5py") is None:
        raise UserError(f"{path} is HDF5; pip install 'convatlas[keras]' to read it")
    # -P: a file of the working folder is no module.
    command = [sys.executable, "-P", "-m", CHILD, str(path.absolute())]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=MOST_SECONDS, check=True)
        found: dict[str, Any] = json.loads(ended.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        raise refused(path, "HDF5 crashed or took too long over it, so it is damaged or made to harm") from error
    return found


def refused(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read as weights of Keras: {why}")
