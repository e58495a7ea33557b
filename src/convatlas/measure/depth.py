"""Depth: how many layers with weights lie one behind the other, followed through the operations that run."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from convatlas.measure.trace import Operation


def depth_of(images: Tensor, operations: Iterable[Operation], weighted: Iterable[Tensor]) -> int:
    """The most layers with weights on one path from `images` to any tensor that depends on them.

    Args:
        weighted: the outputs of convolutions and fully connected layers.
    """
    counted = {id(tensor) for tensor in weighted}
    depths = {id(images): 0}
    for _, _, inputs, outputs in operations:
        before = [depths[id(tensor)] for tensor in inputs if id(tensor) in depths]
        for output in outputs:
            # What an operation changes in place has its depth already.
            if before and id(output) not in depths:
                depths[id(output)] = max(before) + (id(output) in counted)
    return max(depths.values())
