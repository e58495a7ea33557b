"""How much an inference holds at once, beside the weights: the liveness of every activation.

An activation lives from the operation that makes it to the last that reads it. Views share the memory of what they
view. An operation that works element by element writes over an input that nobody reads later, as every runtime for
small devices does it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convatlas.measure.trace import Operation

aten = torch.ops.aten

# Batch normalization of an empty batch is clone, mul and add.
ELEMENT_BY_ELEMENT = {
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
BYTES = 4


def peak_activation_bytes(images: Tensor, operations: Sequence[Operation], outputs: Tensor) -> int:
    """The most bytes that the activations of one image take at once, the image included, as 32-bit numbers.

    `outputs` is what the network gives for `images`, by these operations.
    """
    sizes = {storage(images): size(images)}
    last_read: dict[int, int] = {}
    made: list[list[int]] = []
    for time, (_, _, inputs, results) in enumerate(operations):
        made.append([])
        read = [storage(tensor) for tensor in inputs if storage(tensor) in sizes]
        last_read |= dict.fromkeys(read, time)
        for tensor in results if read else ():
            # Indices, as of the largest in a window, are for training.
            if tensor.is_floating_point() and tensor.dim() > 1 and storage(tensor) not in sizes:
                sizes[storage(tensor)] = size(tensor)
                made[-1].append(storage(tensor))
    # What the network gives is read by whoever asked.
    last_read[storage(outputs)] = len(operations)

    alive = {storage(images)}
    most = 0
    for time, (op, _, inputs, _) in enumerate(operations):
        ending = {key for key in map(storage, inputs) if key in alive and last_read[key] == time}
        held = sum(sizes[key] for key in alive) + sum(sizes[key] for key in made[time])
        if op in ELEMENT_BY_ELEMENT and made[time]:
            same = [key for key in ending if sizes[key] == sizes[made[time][0]]]
            held -= sizes[same[0]] if same else 0
        most = max(most, held)
        alive |= {key for key in made[time] if key in last_read}
        alive -= ending
    return most


def storage(tensor: Tensor) -> int:
    """Which piece of memory a tensor lies in."""
    key: int = tensor.untyped_storage()._cdata
    return key


def size(tensor: Tensor) -> int:
    return BYTES * math.prod(tensor.shape[1:])
