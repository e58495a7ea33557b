"""Receptive fields: which span of the input an output sees, followed through the operations that run.

After Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", and Araujo, Norris and Sim
2019, "Computing receptive fields of convolutional neural networks": a window of k at stride s over a field of
f pixels whose neighbors lie j pixels apart sees f + (k - 1) j, and its neighbors lie j s apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convatlas.measure.trace import Operation

aten = torch.ops.aten


class Field(NamedTuple):
    size: int
    """Pixels of the input that one place sees, along one side."""
    jump: int
    """Pixels of the input between two neighboring places."""


def receptive_fields(images: Tensor, operations: Iterable[Operation]) -> dict[int, Field]:
    """The field of every tensor, by its `id`, that comes from `images` (n, channels, side, side)."""
    fields = {id(images): Field(1, 1)}
    for op, args, inputs, outputs in operations:
        known = [tensor for tensor in inputs if id(tensor) in fields]
        if known:
            # Where branches meet, the widest decides.
            source = max(known, key=lambda tensor: fields[id(tensor)].size)
            field = fields[id(source)]
            for output in outputs:
                fields[id(output)] = step(op, args, source, field, output)
    return fields


def step(op: Any, args: tuple[Any, ...], source: Tensor, field: Field, output: Tensor) -> Field:
    """The field of `output`, which `op` made from `source`."""
    if op is aten.convolution:
        return window(field, args[1].shape[-1], args[3][-1], args[5][-1])
    if op in (aten.max_pool2d_with_indices, aten.avg_pool2d):
        kernel = args[1][-1]
        dilation = args[4][-1] if op is aten.max_pool2d_with_indices and len(args) > 4 else 1
        return window(field, kernel, args[2][-1] if len(args) > 2 and args[2] else kernel, dilation)
    if op is aten.slice and len(args) > 4 and args[1] in (source.dim() - 1, -1):
        return Field(field.size, field.jump * args[4])
    if op is aten._adaptive_avg_pool2d:
        stride = source.shape[-1] // output.shape[-1]
        return window(field, source.shape[-1] - (output.shape[-1] - 1) * stride, stride)
    if source.dim() == 4 and (output.dim() < 4 or output.shape[-1] == 1 != source.shape[-1]):
        # Flattened or averaged as a whole: whatever reads on sees every place.
        return Field(field.size + (source.shape[-1] - 1) * field.jump, field.jump)
    return field


def window(field: Field, kernel: int, stride: int, dilation: int = 1) -> Field:
    return Field(field.size + dilation * (kernel - 1) * field.jump, field.jump * stride)
