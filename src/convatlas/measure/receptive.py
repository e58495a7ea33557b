"""Receptive fields: which span of the input an output sees, followed through the operations that run.

After Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", and Araujo, Norris and Sim
2019, "Computing receptive fields of convolutional neural networks": a window of k at stride s over a field of
f pixels whose neighbours lie j pixels apart sees f + (k - 1) j, and its neighbours lie j s apart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten


class Field(NamedTuple):
    size: int
    """Pixels of the input that one place sees, along one side."""
    jump: int
    """Pixels of the input between two neighbouring places."""


class UncompiledMode(TorchDispatchMode):
    """A dispatch mode that is never compiled: PyTorch need not load its compiler (over a second) to keep it out."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class ReceptiveFields(UncompiledMode):
    """While active, follows the field of every tensor that comes from `pictures` (n, channels, side, side)."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.side = pictures.shape[-1]
        self.fields = WeakTensorKeyDictionary()
        self.fields[pictures] = Field(1, 1)

    def of(self, tensor: Tensor) -> int:
        """Pixels of the input along one side that one element of `tensor` sees, at most the whole side."""
        field: Field = self.fields[tensor]
        return min(field.size, self.side)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        inputs = [x for arg in args for x in (arg if isinstance(arg, list | tuple) else [arg])]
        known = [(x, self.fields[x]) for x in inputs if isinstance(x, Tensor) and x in self.fields]
        if known:
            # Where branches meet, the widest decides.
            source, field = max(known, key=lambda pair: pair[1].size)
            for part in output if isinstance(output, list | tuple) else [output]:
                self.fields[part] = step(func.overloadpacket, args, source, field, part)
        return output


def step(op: Any, args: tuple[Any, ...], source: Tensor, field: Field, output: Tensor) -> Field:
    """The field of `output`, which `op` made from `source`."""
    if op is aten.convolution:
        return window(field, args[1].shape[-1], args[3][-1], args[5][-1])
    if op in (aten.max_pool2d_with_indices, aten.avg_pool2d):
        kernel = args[1][-1]
        dilation = args[4][-1] if op is aten.max_pool2d_with_indices and len(args) > 4 else 1
        return window(field, kernel, args[2][-1] if len(args) > 2 and args[2] else kernel, dilation)
    if op is aten._adaptive_avg_pool2d:
        stride = source.shape[-1] // output.shape[-1]
        return window(field, source.shape[-1] - (output.shape[-1] - 1) * stride, stride)
    if source.dim() == 4 and (output.dim() < 4 or output.shape[-1] == 1 != source.shape[-1]):
        # Flattened or averaged as a whole: whatever reads on sees every place.
        return Field(field.size + (source.shape[-1] - 1) * field.jump, field.jump)
    return field


def window(field: Field, kernel: int, stride: int, dilation: int = 1) -> Field:
    return Field(field.size + dilation * (kernel - 1) * field.jump, field.jump * stride)
