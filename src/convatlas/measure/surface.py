"""The loss surface around trained weights, along two directions (Li, Xu, Taylor, Studer and Goldstein 2018)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


@torch.no_grad()
def loss_surface(
    network: nn.Module, loss: Callable[[], float], offsets: Sequence[float], seed: int = 0
) -> npt.NDArray[np.float64]:
    """The loss at weights + x * first + y * second, for all x and y in `offsets`. The weights are restored afterwards.

    The two directions are random and filter-normalized (section 4): each of their filters has the norm of the
    network's own filter. Biases and normalization parameters stay.

    Args:
        loss: of the network with its present weights.
        offsets: along both directions; at 1 a filter moves by its own norm.
        seed: of the directions.

    Returns:
        Losses (y, x).
    """
    weights = [value for value in network.parameters() if value.dim() > 1]
    trained = [value.clone() for value in weights]
    generator = torch.Generator().manual_seed(seed)
    first, second = ([random_direction(value, generator) for value in weights] for _ in range(2))
    surface = np.empty((len(offsets), len(offsets)))
    try:
        for row, y in enumerate(offsets):
            for column, x in enumerate(offsets):
                for value, own, right, up in zip(weights, trained, first, second, strict=True):
                    value.copy_(own + x * right + y * up)
                surface[row, column] = loss()
    finally:
        for value, own in zip(weights, trained, strict=True):
            value.copy_(own)
    return surface


def random_direction(weights: Tensor, generator: torch.Generator) -> Tensor:
    """A random tensor like `weights`, whose filters (the first dimension) have the norms of those of `weights`."""
    drawn = torch.randn(weights.shape, generator=generator).to(weights)
    norms, own = (value.flatten(1).norm(dim=1) for value in (drawn, weights))
    scaled: Tensor = drawn * (own / norms).view(-1, *[1] * (weights.dim() - 1))
    return scaled


ROUNDING_ERROR = 1e-5
"""Relative to the loss: a mean of float32 losses is no more precise."""


def negative_curvature(surface: npt.NDArray[np.float64]) -> float:
    """The fraction of second differences, along both axes, that are negative: 0 for a convex surface.

    Differences within the rounding error count as zero, so a flat surface has none.

    Args:
        surface: losses (y, x) at even distances, at least 3 x 3.
    """
    negative = []
    for values in (surface, surface.T):
        second_differences = np.diff(values, 2, axis=0)
        negative.append((second_differences < -ROUNDING_ERROR * np.abs(values[1:-1])).ravel())
    return float(np.mean(np.concatenate(negative)))
