"""Weights that share few values, found by k-means (Han, Mao and Dally 2016, section 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from convatlas.errors import UserError
from convatlas.networks.blocks import layer_weights

ROUNDS = 100
"""Of k-means, at most."""
WEIGHTS_PER_VALUE = 4
"""At least: a codebook as long as its layer saves nothing."""
MOST_BITS = 12


@torch.no_grad()
def share_weights(network: nn.Module, bits: int, *, halves: bool = True) -> None:
    """Let the weights of every layer have 2^bits values, in place; those that are 0 stay 0 beside them.

    Args:
        halves: whether these values, and all numbers that are not shared, are rounded to 16 bits.

    Raises:
        UserError: there are no codes of so many bits.
    """
    if not 1 <= bits <= MOST_BITS:
        raise UserError(f"codes of {bits} bits cannot work; it must be from 1 to {MOST_BITS}")
    for weights in layer_weights(network).values():
        flat = weights.flatten().numpy()
        left = flat[flat != 0]
        if not len(left):
            continue
        num = max(min(2**bits, len(left) // WEIGHTS_PER_VALUE), 1)
        values = k_means(left, num)
        shared = values[nearest(values, flat)]
        weights.copy_(torch.from_numpy(np.where(flat == 0, np.float32(0), shared)).view(weights.shape))
    if halves:
        for value in network.state_dict().values():
            # What 16 bits cannot hold keeps its 32.
            if value.is_floating_point() and (rounded := value.half()).isfinite().all():
                value.copy_(rounded)


def k_means(weights: npt.NDArray[np.float32], num: int) -> npt.NDArray[np.float32]:
    """At most `num` values, ascending, with the least squared distance to the weights (n,) that k-means finds.

    They begin in even steps from the smallest weight to the largest, so that the few large weights, which count most,
    have values near them (section 3.2).
    """
    ordered = np.sort(weights).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    values = np.linspace(ordered[0], ordered[-1], num)
    for _ in range(ROUNDS):
        # On a line, the weights nearest to a value are those between the middles to its neighbors.
        edges = np.concatenate([[0], np.searchsorted(ordered, middles(values)), [len(ordered)]])
        counts = np.diff(edges)
        means = np.where(counts > 0, np.diff(sums[edges]) / np.maximum(counts, 1), values)
        if np.array_equal(means, values):
            break
        values = means
    return np.unique(values[counts > 0].astype(np.float32))


def nearest(values: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The places (n,) of the values that the weights (n,) are nearest to."""
    return np.searchsorted(middles(values), weights)


def middles(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return (values[1:] + values[:-1]) / 2
