"""safetensors: a header in JSON and the numbers behind it, mapped into memory."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from convatlas.weights.checkpoint import CheckpointError, reason


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, which stay in it: nothing is copied.

    Raises:
        CheckpointError: its header is damaged, or says more than there is.
    """
    # The library checks the length of the header, and that the tensors fill the rest without gap and overlap.
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is no whole safetensors file: {reason(error)}") from error
