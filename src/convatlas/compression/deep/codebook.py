"""Weight sharing: the weights of a layer take few values, found by k-means (Han, Mao and Dally 2016, section 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from convatlas.errors import UserError
from convatlas.networks.blocks import layer_weights

MAX_ITERATIONS = 100
"""Of k-means."""
WEIGHTS_PER_VALUE = 4
"""At least: a codebook as long as its layer saves nothing."""
MAX_CODEBOOK_BITS = 12


@torch.no_grad()
def share_weights(network: nn.Module, codebook_bits: int, *, half_precision: bool = True) -> None:
    """Replace the weights of every layer by 2^codebook_bits shared values, in place. Zeros stay 0 and do not count.

    Args:
        half_precision: whether the shared values, and all numbers that are not shared, are rounded to float16.

    Raises:
        UserError: there is no codebook of so many bits.
    """
    if not 1 <= codebook_bits <= MAX_CODEBOOK_BITS:
        raise UserError(f"a codebook of {codebook_bits} bits is out of range; it must be from 1 to {MAX_CODEBOOK_BITS}")
    for weights in layer_weights(network).values():
        flat = weights.flatten().numpy()
        nonzero = flat[flat != 0]
        if not len(nonzero):
            continue
        num = max(min(2**codebook_bits, len(nonzero) // WEIGHTS_PER_VALUE), 1)
        values = k_means(nonzero, num)
        shared = values[nearest(values, flat)]
        weights.copy_(torch.from_numpy(np.where(flat == 0, np.float32(0), shared)).view(weights.shape))
    if half_precision:
        for value in network.state_dict().values():
            # What float16 cannot hold stays float32.
            if value.is_floating_point() and (rounded := value.half()).isfinite().all():
                value.copy_(rounded)


def k_means(weights: npt.NDArray[np.float32], num: int) -> npt.NDArray[np.float32]:
    """At most `num` centroids, ascending, of the weights (n,).

    They are initialized in even steps from the smallest weight to the largest, so that the few large weights, which
    matter most, have centroids near them (section 3.2).
    """
    ordered = np.sort(weights).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = np.linspace(ordered[0], ordered[-1], num)
    for _ in range(MAX_ITERATIONS):
        # In one dimension, the weights of a centroid are those between the midpoints to its neighbors.
        edges = np.concatenate([[0], np.searchsorted(ordered, midpoints(centroids)), [len(ordered)]])
        counts = np.diff(edges)
        means = np.where(counts > 0, np.diff(sums[edges]) / np.maximum(counts, 1), centroids)
        if np.array_equal(means, centroids):
            break
        centroids = means
    return np.unique(centroids[counts > 0].astype(np.float32))


def nearest(values: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The indices (n,) of the ascending values that the weights (n,) are nearest to."""
    return np.searchsorted(midpoints(values), weights)


def midpoints(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Between neighboring values."""
    return (values[1:] + values[:-1]) / 2
