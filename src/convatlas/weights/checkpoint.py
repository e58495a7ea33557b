"""A checkpoint: named tensors in a file of another library's, whatever its format."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from convatlas.errors import UserError
from convatlas.formatting import visible

MAX_REASON = 200
"""Characters of another library's message that ours repeats."""


class Format(enum.StrEnum):
    """A file format of weights."""

    PYTORCH = "PyTorch (.pth)"
    SAFETENSORS = "safetensors"
    KERAS = "Keras (.h5)"
    CAFFE = "Caffe (.caffemodel)"


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file, laid out as PyTorch lays them out and with PyTorch's endings.

    A convolution's weight is (output channels, input channels of a group, height, width), a fully connected layer's
    (outputs, inputs). Batch normalization has `weight`, `bias`, `running_mean` and `running_var`.
    """

    path: Path
    format: Format
    tensors: Mapping[str, Tensor]
    """By the name of the layer in the file, a dot and the ending."""
    sha256: str
    """Of the file."""


class CheckpointError(UserError):
    """A file cannot be read as weights; the message names it and says why."""


def reason(error: Exception) -> str:
    """What an error of another library says, on one line."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return visible(text)[:MAX_REASON]
