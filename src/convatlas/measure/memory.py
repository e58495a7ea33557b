"""The memory that an inference needs beside the weights: the liveness of every activation.

An activation lives from the operation that makes it to the last that reads it. Views share the memory of what they
view. An elementwise operation overwrites an input that nobody reads later, as runtimes for small devices do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convatlas.measure.trace import Operation

aten = torch.ops.aten

# Batch normalization of an empty batch runs as clone, mul and add.
ELEMENTWISE = {
    aten.add,
    aten.clone,
    aten.sub,
    aten.mul,
    aten.div,
    aten.pow,
    aten.square,
    aten.relu,
    aten.silu,
    aten.sigmoid,
    aten.tanh,
}


def peak_activation_bytes(images: Tensor, operations: Sequence[Operation], outputs: Tensor) -> int:
    """The most bytes that the activations of one image take at once as 32-bit numbers, the image included.

    Args:
        images: the input (batch, channels, height, width).
        operations: of the forward pass.
        outputs: what the network gives for `images`.
    """
    sizes = {storage_key(images): float32_bytes(images)}
    last_read: dict[int, int] = {}
    made: list[list[int]] = []
    for time, (_, _, inputs, results) in enumerate(operations):
        made.append([])
        read = [storage_key(tensor) for tensor in inputs if storage_key(tensor) in sizes]
        last_read |= dict.fromkeys(read, time)
        for tensor in results if read else ():
            # Indices, as of max pooling, are only for training.
            if tensor.is_floating_point() and tensor.dim() > 1 and storage_key(tensor) not in sizes:
                sizes[storage_key(tensor)] = float32_bytes(tensor)
                made[-1].append(storage_key(tensor))
    # The caller reads the network's outputs.
    last_read[storage_key(outputs)] = len(operations)

    alive = {storage_key(images)}
    peak = 0
    for time, (op, _, inputs, _) in enumerate(operations):
        ending = {key for key in map(storage_key, inputs) if key in alive and last_read[key] == time}
        held = sum(sizes[key] for key in alive) + sum(sizes[key] for key in made[time])
        if op in ELEMENTWISE and made[time]:
            same = [key for key in ending if sizes[key] == sizes[made[time][0]]]
            held -= sizes[same[0]] if same else 0
        peak = max(peak, held)
        alive |= {key for key in made[time] if key in last_read}
        alive -= ending
    return peak


def storage_key(tensor: Tensor) -> int:
    """The memory that a tensor lies in; views of it share the key."""
    key: int = tensor.untyped_storage()._cdata
    return key


def float32_bytes(tensor: Tensor) -> int:
    """The bytes of one image's part of a tensor (batch, ...), as 32-bit numbers."""
    return 4 * math.prod(tensor.shape[1:])
