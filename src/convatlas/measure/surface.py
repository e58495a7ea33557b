"""The loss around trained weights, along two directions (Li, Xu, Taylor, Studer and Goldstein 2018)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


@torch.no_grad()
def loss_surface(
    network: nn.Module, loss: Callable[[], float], places: Sequence[float], seed: int = 0
) -> npt.NDArray[np.float64]:
    """The loss at weights + x * first + y * second; the weights are as before afterwards.

    The directions are drawn at random and filter-normalized (section 4): each filter of them is as long as the
    network's own. Biases and what normalizes stay.

    Args:
        loss: of the network as it is.
        places: along both directions; 1 is as far as the weights are long.

    Returns:
        (y, x).
    """
    weights = [value for value in network.parameters() if value.dim() > 1]
    begun = [value.clone() for value in weights]
    generator = torch.Generator().manual_seed(seed)
    first, second = ([direction(value, generator) for value in weights] for _ in range(2))
    surface = np.empty((len(places), len(places)))
    try:
        for row, y in enumerate(places):
            for column, x in enumerate(places):
                for value, own, right, up in zip(weights, begun, first, second, strict=True):
                    value.copy_(own + x * right + y * up)
                surface[row, column] = loss()
    finally:
        for value, own in zip(weights, begun, strict=True):
            value.copy_(own)
    return surface


def direction(weights: Tensor, generator: torch.Generator) -> Tensor:
    """At random, with filters (the first dimension) as long as those of the weights."""
    drawn = torch.randn(weights.shape, generator=generator).to(weights)
    lengths, own = (value.flatten(1).norm(dim=1) for value in (drawn, weights))
    scaled: Tensor = drawn * (own / lengths).view(-1, *[1] * (weights.dim() - 1))
    return scaled


ROUNDING = 1e-5
"""Of the loss; a mean of single-precision losses is not known better."""


def negative_curvature(surface: npt.NDArray[np.float64]) -> float:
    """The part of the second differences, along both directions, that are negative: 0 of a convex surface.

    What may be rounding is no bend, so that a flat surface has none.

    Args:
        surface: (y, x), at even distances, three or more of each.
    """
    bent = []
    for values in (surface, surface.T):
        bends = np.diff(values, 2, axis=0)
        bent.append((bends < -ROUNDING * np.abs(values[1:-1])).ravel())
    return float(np.mean(np.concatenate(bent)))
