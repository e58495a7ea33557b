"""Receptive fields: the span of the input that an output depends on, followed through the operations that run.

After Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", and Araujo, Norris and Sim
2019, "Computing receptive fields of convolutional neural networks". Let positions see f pixels of the input and
neighboring positions lie j pixels apart. Then a window of k positions at stride s sees f + (k - 1) j pixels, and its
neighbors lie j s pixels apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convatlas.measure.trace import Operation

aten = torch.ops.aten


class ReceptiveField(NamedTuple):
    size: int
    """Pixels of the input that one position sees, along one side."""
    jump: int
    """Pixels of the input between two neighboring positions."""


def receptive_fields(images: Tensor, operations: Iterable[Operation]) -> dict[int, ReceptiveField]:
    """The receptive field of every tensor that depends on `images`, by the tensor's `id`.

    Args:
        images: (batch, channels, side, side).
    """
    fields = {id(images): ReceptiveField(1, 1)}
    for op, args, inputs, outputs in operations:
        known = [tensor for tensor in inputs if id(tensor) in fields]
        if known:
            # Where branches meet, the widest decides.
            source = max(known, key=lambda tensor: fields[id(tensor)].size)
            field = fields[id(source)]
            for output in outputs:
                fields[id(output)] = field_after(op, args, source, field, output)
    return fields


def field_after(
    op: Any, args: tuple[Any, ...], source: Tensor, field: ReceptiveField, output: Tensor
) -> ReceptiveField:
    """The receptive field of `output`, which `op` made from `source` with its receptive field."""
    if op is aten.convolution:
        return field_after_window(field, args[1].shape[-1], args[3][-1], args[5][-1])
    if op in (aten.max_pool2d_with_indices, aten.avg_pool2d):
        kernel = args[1][-1]
        dilation = args[4][-1] if op is aten.max_pool2d_with_indices and len(args) > 4 else 1
        return field_after_window(field, kernel, args[2][-1] if len(args) > 2 and args[2] else kernel, dilation)
    if op is aten.slice and len(args) > 4 and args[1] in (source.dim() - 1, -1):
        return ReceptiveField(field.size, field.jump * args[4])
    if op is aten._adaptive_avg_pool2d:
        stride = source.shape[-1] // output.shape[-1]
        return field_after_window(field, source.shape[-1] - (output.shape[-1] - 1) * stride, stride)
    if source.dim() == 4 and (output.dim() < 4 or output.shape[-1] == 1 != source.shape[-1]):
        # Flattened or averaged over all positions: the next layer sees every one of them.
        return ReceptiveField(field.size + (source.shape[-1] - 1) * field.jump, field.jump)
    return field


def field_after_window(field: ReceptiveField, kernel: int, stride: int, dilation: int = 1) -> ReceptiveField:
    """The receptive field after a convolution or pooling with that kernel size, stride and dilation."""
    return ReceptiveField(field.size + dilation * (kernel - 1) * field.jump, field.jump * stride)
